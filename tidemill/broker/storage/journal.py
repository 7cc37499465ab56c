"""The journal: small checksummed JSON records of topics, groups, offsets and producer ids."""

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import structlog
from crc32c import crc32c

from tidemill.broker.errors import StartupRefused
from tidemill.broker.storage.disk import Disk

Record = dict[str, Any]
REWRITE_FROM_BYTES = 4 << 20
_GROWTH = 4

_log = structlog.get_logger(__name__)


class Journal:
    """Appends records to one file; on start every intact one is replayed in order."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        is_new = not path.exists()
        self._descriptor = disk.open(path)
        if is_new:
            disk.sync_directory(path.parent)
        self._size = 0
        self._size_when_rewritten = 0
        self._sync_lock = threading.Lock()
        # What an earlier process wrote may not be on disk either.
        self.is_dirty = not is_new
        self.is_failed = False

    def replay(self) -> Iterator[Record]:
        """Yields all records; cuts a torn last one.

        Raises StartupRefused if a broken record has intact ones behind it.
        """
        content = self._path.read_bytes()
        for line in content.splitlines(keepends=True):
            record = _parse(line)
            if record is None:
                self._cut(content)
                return
            self._size += len(line)
            yield record

    def append(self, record: Record) -> None:
        """Writes one record; on OSError the journal is as it was before."""
        line = _format(record)
        try:
            self._disk.write_at(self._descriptor, self._size, [line])
        except OSError:
            self._cut_back()
            raise
        self._size += len(line)
        self.is_dirty = True

    @property
    def wants_rewrite(self) -> bool:
        """Whether most of the file is likely to be history, or may not be on disk."""
        grown = self._size > max(REWRITE_FROM_BYTES, _GROWTH * self._size_when_rewritten)
        return grown or self.is_failed

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replaces the history by records that give the same state; raises OSError."""
        content = b"".join(map(_format, records))
        self._disk.replace(self._path, content)
        os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._size = self._size_when_rewritten = len(content)
        self.is_dirty = self.is_failed = False

    @property
    def is_synced(self) -> bool:
        """Whether all that was appended is on disk, with no sync on its way."""
        return not (self.is_dirty or self.is_failed or self._sync_lock.locked())

    def sync(self) -> None:
        """Forces the journal to disk; for a worker thread. Raises OSError.

        Threads take turns: one that finds nothing to do knows that the others are through.
        After a failure only `rewrite` helps: the kernel may have dropped what was written.
        """
        with self._sync_lock:
            if self.is_failed:
                raise OSError("an earlier sync failed")
            if not self.is_dirty:
                return
            self.is_dirty = False
            try:
                self._sync_file()
            except OSError:
                self.is_failed = True
                raise

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _sync_file(self) -> None:
        # The loop may replace its descriptor at any time.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)

    def _cut(self, content: bytes) -> None:
        rest = content[self._size :].splitlines(keepends=True)[1:]
        if any(_parse(line) is not None for line in rest):
            raise StartupRefused(
                "JOURNAL_DAMAGED",
                f"{self._path} is damaged at byte {self._size}; restore it from a copy, "
                "or start with another --data-dir",
            )
        _log.warning("torn_journal_tail_cut", bytes=len(content) - self._size)
        self._disk.truncate(self._descriptor, self._size)

    def _cut_back(self) -> None:
        # If even this fails, the next append overwrites the leftover, and replay cuts it.
        try:
            self._disk.truncate(self._descriptor, self._size)
        except OSError:
            self.is_dirty = True


def _format(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32c(body), body)


def _parse(line: bytes) -> Record | None:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32c(body):
        return None
    parsed: Record = json.loads(body)
    return parsed
