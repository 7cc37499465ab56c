"""One append-only file of record batches, named after the first offset it may hold."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill.broker.storage import scan
from tidemill.broker.storage.batch import HEADER_SIZE, BatchHeader
from tidemill.broker.storage.disk import Buffer, Disk
from tidemill.broker.storage.sparse_index import NO_TIMESTAMP, SparseIndex
from tidemill.broker.storage.transaction_index import AbortedTransaction

LOG_SUFFIX = ".log"


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that recovery took out of a segment; those of a torn write are not kept."""

    size: int
    kept_as: Path | None = None
    next_base_offset: int | None = None


class Segment:
    """A log file with its sparse index in memory. Writes raise OSError and leave no trace."""

    def __init__(self, directory: Path, base_offset: int, disk: Disk) -> None:
        self.base_offset = base_offset
        self.path = directory / f"{base_offset:020d}{LOG_SUFFIX}"
        self.index = SparseIndex()
        # Of the transactions whose marker lies here, in the order of the markers.
        self.aborted: list[AbortedTransaction] = []
        self.size = 0
        self.next_offset = base_offset
        self.max_timestamp = NO_TIMESTAMP
        self.created_ms = 0
        # Unless a seal says otherwise: what an earlier process wrote may not be on disk either.
        self.is_dirty = True
        self._is_named = False
        self._disk = disk
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file; opened on first use, so that idle topics cost no descriptor."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        return self._descriptor

    def create(self, now_ms: int, path: Path | None = None) -> None:
        """Makes the empty file, for now at another path if one is given; raises OSError."""
        self.created_ms = now_ms
        self._descriptor = self._disk.create(path or self.path)
        self.is_dirty = True

    def append(self, header: BatchHeader, chunks: list[Buffer]) -> None:
        """Writes one stamped batch; on OSError the file is as it was before."""
        try:
            self._disk.write_at(self.descriptor, self.size, chunks)
        except OSError:
            self._cut_back()
            raise
        self.note(self.size, header)
        self.is_dirty = True

    def note(self, position: int, header: BatchHeader) -> None:
        """Takes a batch that lies at `position` into the index."""
        self.index.note(header.base_offset, position, self.max_timestamp)
        self.size = position + header.size
        self.next_offset = header.last_offset + 1
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)

    def recover(self, size: int) -> Iterator[BatchHeader]:
        """Rebuilds the index from the file's first `size` bytes, checking every checksum.

        Yields each intact batch. Afterwards `self.size` is where the intact part ends.
        """
        for position, header in scan.batches(self.descriptor, 0, size, verify=True):
            if header.base_offset < self.next_offset:
                return
            self.note(position, header)
            yield header

    def cut_tail(self) -> Damage | None:
        """After `recover`: removes what follows the intact part, and says what that was.

        A torn last write was never acknowledged and is cut. Bytes with intact batches behind
        them are damage: they are kept in a file beside the log for a person to look at, and
        the batches behind them become a segment of their own.
        """
        end = os.fstat(self.descriptor).st_size
        if end == self.size:
            return None
        intact = scan.find_whole_batch(self.descriptor, self.size, end, self.next_offset)
        damage = Damage(end - self.size if intact is None else intact - self.size)
        if intact is not None:
            damage = self._set_aside(intact, end)
        self._disk.truncate(self.descriptor, self.size)
        return damage

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool = True) -> memoryview:
        """Whole batches from the one that holds `offset` on; the first whatever its size."""
        start, end = self.span(offset, max_bytes, at_least_one=at_least_one)
        return self.read_span(start, end)

    def span(
        self, offset: int, max_bytes: int, *, at_least_one: bool, before: int | None = None
    ) -> tuple[int, int]:
        """Positions from and to which to read; stops at the batch that holds offset `before`."""
        start = self._position_of(offset)
        if start is None:
            return 0, 0
        end = self.size
        if before is not None and before < self.next_offset:
            end = self._position_of(before) or start
        if start + max_bytes < end:
            end = max(start, self.index.boundary_at_or_below(start + max_bytes))
        if end == start and at_least_one:
            end += BatchHeader.read(os.pread(self.descriptor, HEADER_SIZE, start)).size
        return start, end

    def read_span(self, start: int, end: int) -> memoryview:
        """The bytes between two positions."""
        return memoryview(os.pread(self.descriptor, end - start, start))

    def offset_at_or_above(self, position: int) -> int:
        """An offset that nothing before `position` reaches."""
        return self.index.offset_at_or_above(position, self.next_offset)

    def last_batch(self, header: BatchHeader) -> memoryview:
        """The whole batch that was noted last."""
        return self.read_span(self.size - header.size, self.size)

    def batches_from_time(self, timestamp: int) -> Iterator[BatchHeader]:
        """Batches in log order from a boundary before which every record is older."""
        start = self.index.position_before_time(timestamp)
        for _, header in scan.batches(self.descriptor, start, self.size, verify=False):
            yield header

    def sync(self) -> None:
        """Forces the file and its name to disk; for a worker thread. Raises OSError."""
        self.is_dirty = False
        # The loop may close its descriptor at any time.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._disk.sync(descriptor)
            if not self._is_named:
                self._disk.sync_directory(self.path.parent)
                self._is_named = True
        except OSError:
            self.is_dirty = True
            raise
        finally:
            os.close(descriptor)

    def sync_in_place(self) -> None:
        """Forces the file to disk under whatever name it has; raises OSError."""
        self._disk.sync(self.descriptor)
        self.is_dirty = False

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def delete(self) -> None:
        """Closes and removes the file."""
        self.close()
        self._disk.remove(self.path)

    def _set_aside(self, intact: int, end: int) -> Damage:
        header = BatchHeader.read(os.pread(self.descriptor, HEADER_SIZE, intact))
        damaged = os.pread(self.descriptor, intact - self.size, self.size)
        kept_as = self.path.with_suffix(f".damaged-{self.next_offset}")
        self._disk.replace(kept_as, damaged)
        following = self.path.with_name(f"{header.base_offset:020d}{LOG_SUFFIX}")
        self._disk.replace(following, os.pread(self.descriptor, end - intact, intact))
        return Damage(len(damaged), kept_as, header.base_offset)

    def _position_of(self, offset: int) -> int | None:
        start = self.index.position_before_offset(offset)
        for position, header in scan.batches(self.descriptor, start, self.size, verify=False):
            if header.last_offset >= offset:
                return position
        return None

    def _cut_back(self) -> None:
        # If even this fails, the next append overwrites the leftover, and recovery cuts it.
        try:
            self._disk.truncate(self.descriptor, self.size)
        except OSError:
            self.is_dirty = True
