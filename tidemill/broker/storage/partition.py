"""One partition: its segments in order, its producers, and who waits for new records."""

import asyncio
import contextlib
import threading
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage import records, seal
from tidemill.broker.storage.batch import BatchHeader, stamp
from tidemill.broker.storage.disk import Buffer, Disk
from tidemill.broker.storage.markers import Marker, marker_batch
from tidemill.broker.storage.producers import ProducerStates
from tidemill.broker.storage.seal import Seal
from tidemill.broker.storage.segment import Segment
from tidemill.broker.storage.transaction_index import AbortedTransaction, aborted_between
from tidemill.broker.storage.validation import check_records, checked_header


@dataclass(frozen=True, slots=True)
class AppendRules:
    """The topic's settings that matter to an append."""

    max_message_bytes: int
    segment_bytes: int
    segment_ms: int
    log_append_time: bool
    needs_keys: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch went; `append_time_ms` is -1 unless the broker set the time."""

    base_offset: int
    append_time_ms: int


class Partition:
    """Appends and reads in one thread; `segments` is never empty, the last one is active."""

    def __init__(
        self, directory: Path, disk: Disk, segments: list[Segment], producers: ProducerStates
    ) -> None:
        self.directory = directory
        self.segments = segments
        self.producers = producers
        self.start_offset = segments[0].base_offset
        self.is_failed = False
        self.is_closed = False
        # While segments are being replaced on disk none is closed or removed.
        self.is_replacing = False
        self.unsealed: list[tuple[Segment, Seal]] = []
        self._disk = disk
        self._unsynced = [segment for segment in segments[:-1] if segment.is_dirty]
        self._unsynced_names = list(directory.parents[:3])
        self._sync_lock = threading.Lock()
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def end_offset(self) -> int:
        """The offset the next record gets."""
        return self.segments[-1].next_offset

    @property
    def stable_offset(self) -> int:
        """Below it every transaction has ended; readers of committed records see no further."""
        first = self.producers.open.first_offset
        return self.end_offset if first is None else max(first, self.start_offset)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def is_dirty(self) -> bool:
        """Whether a sync has something to do."""
        return bool(self._unsynced) or self.segments[-1].is_dirty

    def append(self, batch: Buffer | None, rules: AppendRules, now_ms: int) -> Appended:
        """Appends one batch, or finds that it was appended before.

        Raises RequestRefused; after KAFKA_STORAGE_ERROR the log is as it was before.
        """
        header = checked_header(batch, rules.max_message_bytes)
        assert batch is not None  # noqa: S101  checked_header refuses None
        if self.is_failed:
            raise RequestRefused(ErrorCode.kafka_storage_error, "a sync to disk failed")
        repeated = self.producers.check(header)
        if repeated is not None:
            return Appended(repeated.base_offset, repeated.timestamp_ms)
        if rules.needs_keys or header.codec:
            check_records(header, batch, needs_keys=rules.needs_keys)
        append_time = now_ms if rules.log_append_time else None
        header, chunks = stamp(header, batch, self.end_offset, append_time)
        self._write(header, chunks, rules, now_ms)
        self.producers.note(header, now_ms)
        self._wake()
        return Appended(header.base_offset, -1 if append_time is None else append_time)

    def end_transaction(self, marker: Marker, rules: AppendRules, now_ms: int) -> bool:
        """Appends the marker if the producer has a transaction open here; returns whether.

        So it may be called again after a failure. Raises RequestRefused as `append` does.
        """
        if marker.producer_id not in self.producers.open:
            return False
        if self.is_failed:
            raise RequestRefused(ErrorCode.kafka_storage_error, "a sync to disk failed")
        header, chunks = marker_batch(marker, self.end_offset, now_ms)
        self._write(header, chunks, rules, now_ms)
        note_marker(self.segments[-1], self.producers, marker, header.base_offset, now_ms)
        self._wake()
        return True

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool = True) -> memoryview:
        """Whole batches from `offset` on, of one segment; empty at the end of the log.

        Raises RequestRefused with OFFSET_OUT_OF_RANGE.
        """
        for segment in self._holding(offset)[:1]:
            return segment.read(offset, max_bytes, at_least_one=at_least_one)
        return memoryview(b"")

    def read_committed(
        self, offset: int, max_bytes: int, *, at_least_one: bool = True
    ) -> tuple[memoryview, list[AbortedTransaction]]:
        """As `read`, but nothing from the first open transaction on.

        Aborted records are among the batches; the list says which the reader is to skip.
        """
        segments, stable = self._holding(offset), self.stable_offset
        if not segments or offset >= stable:
            return memoryview(b""), []
        first = segments[0]
        start, end = first.span(offset, max_bytes, at_least_one=at_least_one, before=stable)
        upper = min(first.offset_at_or_above(end), stable)
        aborted = aborted_between((s.aborted for s in segments), offset, upper)
        return first.read_span(start, end), aborted

    def find_time(self, timestamp: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record not older than `timestamp`, if any."""
        for segment in self.segments:
            if segment.max_timestamp < timestamp:
                continue
            for header in segment.batches_from_time(timestamp):
                if header.max_timestamp >= timestamp and header.last_offset >= self.start_offset:
                    batch = segment.read(header.base_offset, 0)
                    return records.first_at_or_after(batch, timestamp)
        return None

    def find_latest_time(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the record with the highest timestamp, if any."""
        highest = max(segment.max_timestamp for segment in self.segments)
        return self.find_time(highest) if highest >= 0 else None

    def wait_for_append(self, waiter: asyncio.Future[None]) -> None:
        """Completes `waiter` at the next append; `forget` it when no longer wanted."""
        self._waiters.add(waiter)

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """Stops completing `waiter`."""
        self._waiters.discard(waiter)

    def roll(self, now_ms: int) -> None:
        """Starts a new active segment; the full one waits in `unsealed` to be sealed."""
        full = self.segments[-1]
        active = Segment(self.directory, full.next_offset, self._disk)
        active.create(now_ms)
        self._unsynced.append(full)
        self.unsealed.append((full, seal.seal_of(full, self.producers)))
        self.segments.append(active)

    def delete_before(self, offset: int) -> None:
        """Makes `offset` the first readable one and removes segments wholly below it."""
        self.start_offset = max(self.start_offset, min(offset, self.end_offset))
        self._drop_unreadable()

    def expire(self, *, older_than_ms: int | None, keep_bytes: int | None, now_ms: int) -> int:
        """Removes whole segments past the topic's retention; returns how many."""
        self._drop_unreadable()
        removed = 0
        while not self.is_replacing and self._first_has_expired(older_than_ms, keep_bytes):
            if len(self.segments) == 1:
                self.roll(now_ms)
            self._drop_first()
            removed += 1
        self.start_offset = max(self.start_offset, self.segments[0].base_offset)
        return removed

    def sync(self) -> None:
        """Forces what was appended to disk; for a worker thread. Raises OSError.

        Older segments come first: no record survives a power cut that one before it did not.
        Threads take turns: one that finds nothing to do knows that the others are through.
        """
        with self._sync_lock:
            if self.is_failed:
                raise OSError("an earlier sync failed")
            try:
                self._sync_files()
            except OSError:
                self.is_failed = True
                raise

    def seal_full_segments(self) -> None:
        """Writes the outstanding seals; for a worker thread. Raises OSError."""
        while self.unsealed:
            segment, described = self.unsealed[0]
            # Retention may remove the segment at any time; then there is nothing to vouch for.
            with contextlib.suppress(FileNotFoundError):
                seal.write(segment, described, self._disk)
            self.unsealed.pop(0)

    def close_full_segments(self) -> None:
        """Gives back descriptors of segments that are only read; a read opens them again."""
        for segment in [] if self.is_replacing else self.segments[:-1]:
            segment.close()

    def replace(self, old: list[Segment], new: Segment) -> None:
        """Puts a segment in the place of adjoining ones; readers see the one or the others."""
        start = self.segments.index(old[0])
        self.segments[start : start + len(old)] = [new]
        for segment in old:
            segment.close()

    def close(self) -> None:
        """Wakes all readers and closes the files."""
        self.is_closed = True
        self._wake()
        for segment in self.segments:
            segment.close()

    def _write(
        self, header: BatchHeader, chunks: list[Buffer], rules: AppendRules, now_ms: int
    ) -> None:
        try:
            if self._is_full(header, rules, now_ms):
                self.roll(now_ms)
            self.segments[-1].append(header, chunks)
        except OSError as error:
            raise RequestRefused(ErrorCode.kafka_storage_error, "the disk refused") from error

    def _is_full(self, header: BatchHeader, rules: AppendRules, now_ms: int) -> bool:
        active = self.segments[-1]
        if not active.size:
            active.created_ms = now_ms
            return False
        is_old = now_ms - active.created_ms > rules.segment_ms
        return is_old or active.size + header.size > rules.segment_bytes

    def _first_has_expired(self, older_than_ms: int | None, keep_bytes: int | None) -> bool:
        first = self.segments[0]
        if not first.size:
            return len(self.segments) > 1
        if older_than_ms is not None and first.max_timestamp < older_than_ms:
            return True
        # By size the active segment stays, as in Apache Kafka.
        if keep_bytes is None or len(self.segments) == 1:
            return False
        return self.size - first.size >= keep_bytes

    def _holding(self, offset: int) -> list[Segment]:
        """The segment to read `offset` from and those behind it; empty at the end of the log."""
        if not self.start_offset <= offset <= self.end_offset:
            raise RequestRefused(ErrorCode.offset_out_of_range)
        segments = self.segments[self._segment_index(offset) :]
        # Recovery may have left a gap between two segments: then the later one has the answer.
        while segments and not (segments[0].next_offset > offset and segments[0].size):
            segments.pop(0)
        return segments

    def _sync_files(self) -> None:
        for segment in [*self._unsynced, self.segments[-1]]:
            self._sync_segment(segment)
        while self._unsynced_names:
            self._disk.sync_directory(self._unsynced_names[0])
            self._unsynced_names.pop(0)

    def _sync_segment(self, segment: Segment) -> None:
        if segment.is_dirty:
            # Retention may remove it at any time; then there is nothing to keep.
            with contextlib.suppress(FileNotFoundError):
                segment.sync()
        if segment in self._unsynced:
            self._unsynced.remove(segment)

    def _drop_unreadable(self) -> None:
        while (
            not self.is_replacing
            and len(self.segments) > 1
            and self.segments[0].next_offset <= self.start_offset
            and self.segments[1].base_offset <= self.start_offset
        ):
            self._drop_first()

    def _drop_first(self) -> None:
        segment = self.segments.pop(0)
        segment.delete()
        seal.remove(segment, self._disk)
        self.start_offset = max(self.start_offset, self.segments[0].base_offset)

    def _segment_index(self, offset: int) -> int:
        bases = [segment.base_offset for segment in self.segments]
        return max(bisect_right(bases, offset) - 1, 0)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def note_marker(
    segment: Segment, producers: ProducerStates, marker: Marker, offset: int, now_ms: int
) -> None:
    """Takes in a marker that is in the log at `offset`, in this segment."""
    aborted = producers.note_marker(marker, offset, now_ms)
    if aborted is not None:
        segment.aborted.append(aborted)
