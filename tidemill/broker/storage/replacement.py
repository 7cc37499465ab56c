"""Puts one file in the place of adjoining segments, so that a crash leaves these or that one.

A new segment is written as BASE-END.cleaned, synced, and renamed BASE-END-SIZE.swap: from then
on it counts, and what is left to do is done at the next start if need be. END is the first
offset behind the segments that it replaces.
"""

import os
from pathlib import Path

import structlog

from tidemill.broker.storage import scan, seal
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.segment import LOG_SUFFIX

CLEANED_SUFFIX = ".cleaned"
SWAP_SUFFIX = ".swap"
_log = structlog.get_logger(__name__)


def cleaned_path(directory: Path, base: int, end: int) -> Path:
    """Where the new segment is written."""
    return directory / f"{base:020d}-{end:020d}{CLEANED_SUFFIX}"


def promote(cleaned: Path, size: int, disk: Disk) -> Path:
    """Makes a synced file count; returns its new path. Raises OSError."""
    swap = cleaned.with_name(f"{cleaned.stem}-{size}{SWAP_SUFFIX}")
    disk.rename(cleaned, swap)
    disk.sync_directory(swap.parent)
    return swap


def finish(swap: Path, disk: Disk) -> None:
    """Removes the replaced segments and gives the new one their place.

    May be called again after a failure. Raises OSError.
    """
    base, end, _ = _parse(swap)
    for path in sorted(swap.parent.glob(f"*{LOG_SUFFIX}")):
        if base <= int(path.stem) < end:
            disk.remove(path.with_suffix(seal.SEAL_SUFFIX))
            if int(path.stem) != base:
                disk.remove(path)
    disk.sync_directory(swap.parent)
    if swap.exists():
        disk.rename(swap, swap.with_name(f"{base:020d}{LOG_SUFFIX}"))
    disk.sync_directory(swap.parent)


def recover(directory: Path, disk: Disk) -> None:
    """Finishes or undoes what a crash cut short; raises OSError."""
    for path in directory.glob(f"*{CLEANED_SUFFIX}"):
        disk.remove(path)
    for path in sorted(directory.glob(f"*{SWAP_SUFFIX}")):
        if _is_sound(path):
            finish(path, disk)
        else:
            _log.error("damaged_swap_set_aside", file=str(path))
            disk.rename(path, path.with_suffix(".damaged-swap"))


def _is_sound(swap: Path) -> bool:
    _, _, size = _parse(swap)
    if swap.stat().st_size != size:
        return False
    descriptor = os.open(swap, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = 0
        for position, header in scan.batches(descriptor, 0, size, verify=True):
            end = position + header.size
    finally:
        os.close(descriptor)
    return end == size


def _parse(swap: Path) -> tuple[int, int, int]:
    base, end, size = map(int, swap.stem.split("-"))
    return base, end, size
