"""Bounds the logs of a mesh's processes: each keeps its newest lines and one file before them."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
CHECK_SECONDS = 5.0


@contextmanager
def bounded_logs(
    folder: Path, max_bytes: int = MAX_BYTES, seconds: float = CHECK_SECONDS
) -> Iterator[None]:
    """Looks after the "*.log" of the folder while the block runs, from a thread of its own."""
    ended = threading.Event()
    looking = threading.Thread(
        target=_look, args=(folder, max_bytes, seconds, ended), name="log files", daemon=True
    )
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


def _look(folder: Path, max_bytes: int, seconds: float, ended: threading.Event) -> None:
    while not ended.wait(seconds):
        for path in folder.glob("*.log"):
            with suppress(OSError):  # a full disk is what this is against
                shorten(path, max_bytes)


def shorten(path: Path, max_bytes: int) -> None:
    """A log above the bound becomes NAME.log.1, and begins anew.

    Its process holds it open for appending, so it is copied and emptied in place: a line that is
    written between the two is lost.
    """
    if path.stat().st_size <= max_bytes:
        return
    before = path.with_name(path.name + ".1")
    try:
        _copy_end(path, before, max_bytes)
    finally:
        with path.open("r+b") as log:
            log.truncate(0)


def _copy_end(path: Path, into: Path, max_bytes: int) -> None:
    """The last max_bytes, from the beginning of a line."""
    with path.open("rb") as log, into.open("wb") as kept:
        log.seek(-max_bytes, 2)
        log.readline()
        shutil.copyfileobj(log, kept)
