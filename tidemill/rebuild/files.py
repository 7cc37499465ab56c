"""The files of a store: kept from two users at a time, and exchanged in one step."""

import asyncio
import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from tidemill.faults import StartRefused

POLL_SECONDS = 0.05
OLD = ".before-rebuild"
FOLDER = "rebuild"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLAlchemy URL; None for another database than SQLite."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


@asynccontextmanager
async def held(
    path: Path, refusal: StartRefused, *, alone: bool, seconds: float
) -> AsyncIterator[None]:
    """A lock on the file, freed by the kernel when its process dies; raises the refusal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    deadline = time.monotonic() + seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise refusal from error
                await asyncio.sleep(POLL_SECONDS)
        yield


def store_lock(file: Path) -> Path:
    """Services share it while they have the store open; a swap has it alone."""
    return file.with_name("store.lock")


def complete(file: Path) -> None:
    """Bring what is in the write-ahead log into the SQLite file, and the file to the disk."""
    connection = sqlite3.connect(file, timeout=10.0)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    for rest in (f"{file}-wal", f"{file}-shm"):
        Path(rest).unlink(missing_ok=True)
    _sync(file)


def swap(new: Path, live: Path) -> None:
    """At every moment the place holds the old file or the new one; the old one stays beside it."""
    complete(new)
    old = live.with_name(live.name + OLD)
    if live.exists():
        complete(live)
        temporary = old.with_name(old.name + ".tmp")
        temporary.unlink(missing_ok=True)
        os.link(live, temporary)
        temporary.replace(old)
    new.replace(live)
    _sync(live.parent)


def swap_derived(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Files that their service restores from its rows when a crash leaves none."""
    for new, live in pairs:
        old = live.with_name(live.name + OLD)
        _remove(old)
        if live.exists():
            live.replace(old)
        if new.exists():
            new.replace(live)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards. What an earlier try left is of no use: the log is read from
    its beginning."""
    folder = parent / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
