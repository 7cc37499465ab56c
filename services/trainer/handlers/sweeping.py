"""Removes run folders that no run in the rows will use: they hold what users wrote."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import structlog

from services.trainer.adapters import runs_store
from services.trainer.handlers.runs import Place
from tidemill.artifacts import store_faults

log = structlog.get_logger()

MIN_AGE = timedelta(minutes=10)
"""A folder comes before its rows; so long after it they are there, or never will be."""


async def sweep_folders(place: Place) -> int:
    """A crash between a folder and its rows, or between a run's end and the removal of its folder,
    leaves one behind. Returns how many were removed."""
    before = (place.clock.now() - MIN_AGE).timestamp()
    # Folders first: what is made after this look is younger than MIN_AGE anyhow.
    old = await asyncio.to_thread(folders_before, place.folder, before)
    running = await place.database.read(runs_store.running_ids)
    orphans = [folder for folder in old if folder.name not in running]
    for folder in orphans:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if orphans:
        log.warning("run_folders_swept", count=len(orphans))
    return len(orphans)


def folders_before(parent: Path, time: float) -> list[Path]:
    """Folders in which nothing was made or replaced since then (seconds since the epoch)."""
    if not parent.exists():
        return []
    with store_faults():
        return [each for each in parent.iterdir() if each.is_dir() and changed_at(each) < time]


def changed_at(folder: Path) -> float:
    return folder.stat().st_mtime
