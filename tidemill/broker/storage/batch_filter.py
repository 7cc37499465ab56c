"""What compaction leaves of one batch."""

from dataclasses import dataclass
from enum import Enum

from tidemill.broker.storage import codecs, records
from tidemill.broker.storage.batch import (
    HEADER_SIZE,
    NO_PRODUCER,
    BatchHeader,
    sealed_with_checksum,
)
from tidemill.broker.storage.disk import Buffer
from tidemill.broker.storage.key_map import AbortedRecords, KeyMap
from tidemill.broker.storage.records import RecordView

Batch = tuple[BatchHeader, list[Buffer]]


class _Fate(Enum):
    DROPPED = 0
    KEPT = 1
    KEPT_TOMBSTONE = 2


@dataclass(slots=True)
class BatchFilter:
    """Decides by the key map; `now_ms` and the horizons it leaves are milliseconds since 1970.

    Batches are to come in log order: a tombstone stays for ever behind a batch whose keys cannot
    be read, since that may hold the record it deletes.
    """

    keys: KeyMap
    aborted: AbortedRecords
    last_sequences: frozenset[tuple[int, int, int]]
    now_ms: int
    delete_retention_ms: int
    next_horizon_ms: int | None = None
    tombstones_stay: bool = False

    def left_of(self, header: BatchHeader, batch: Buffer, *, is_last: bool) -> Batch | None:
        """The batch as it is to be written; None to leave it out.

        A batch none of whose records are left stays without them if `is_last`, so that readers
        come to the end, or if it carries its producer's last sequence number.
        """
        whole: Batch = header, [batch]
        if header.is_control:
            return whole
        try:
            kept, has_tombstone = self._kept(header, batch)
        except IndexError:
            self.tombstones_stay = True
            return whole
        sets_horizon = has_tombstone and self._sets_horizon(header)
        if not kept:
            return self._empty(header, is_last=is_last)
        if len(kept) == header.record_count and not sets_horizon:
            return whole
        return self._rebuilt(header, kept, sets_horizon=sets_horizon)

    def _kept(self, header: BatchHeader, batch: Buffer) -> tuple[list[RecordView], bool]:
        kept: list[RecordView] = []
        has_tombstone = False
        if self.aborted.has(header):
            return kept, has_tombstone
        body = records.plain_records(header, batch)
        if body is None:
            raise IndexError
        for record in self.keys.pace.over(records.views(header, body)):
            fate = self._fate(header, record)
            if fate is not _Fate.DROPPED:
                kept.append(record)
            has_tombstone |= fate is _Fate.KEPT_TOMBSTONE
        return kept, has_tombstone

    def _fate(self, header: BatchHeader, record: RecordView) -> _Fate:
        offset = header.base_offset + record.offset_delta
        if offset >= self.keys.end:
            return _Fate.KEPT
        if record.key is None or self.keys.is_superseded(record.key, offset):
            return _Fate.DROPPED
        if record.has_value:
            return _Fate.KEPT
        horizon = header.delete_horizon_ms
        is_over = horizon is not None and horizon < self.now_ms
        return _Fate.DROPPED if is_over and not self.tombstones_stay else _Fate.KEPT_TOMBSTONE

    def _sets_horizon(self, header: BatchHeader) -> bool:
        if self.tombstones_stay or header.last_offset >= self.keys.end:
            return False
        present = header.delete_horizon_ms
        horizon = self.now_ms + self.delete_retention_ms if present is None else present
        self.next_horizon_ms = min(horizon, self.next_horizon_ms or horizon)
        return present is None

    def _empty(self, header: BatchHeader, *, is_last: bool) -> Batch | None:
        is_producers_last = header.producer_id != NO_PRODUCER and (
            (header.producer_id, header.producer_epoch, header.last_sequence) in self.last_sequences
        )
        if not is_last and not is_producers_last:
            return None
        empty = sealed_with_checksum(header.as_empty(), b"")
        return empty, [empty.pack()]

    def _rebuilt(self, header: BatchHeader, kept: list[RecordView], *, sets_horizon: bool) -> Batch:
        times = [header.base_timestamp + record.time_delta for record in kept]
        parts: list[Buffer] = [record.raw for record in kept]
        latest = header.max_timestamp if header.is_log_append_time else max(times)
        if sets_horizon:
            header = header.with_delete_horizon(self.now_ms + self.delete_retention_ms)
            parts = [
                record.with_time_delta(time - header.base_timestamp)
                for record, time in zip(kept, times, strict=True)
            ]
        body = codecs.compress(header.codec, b"".join(parts))
        header = sealed_with_checksum(header.with_body(body, len(kept), latest), body)
        assert header.size == HEADER_SIZE + len(body)  # noqa: S101  readers rely on it
        return header, [header.pack(), body]
