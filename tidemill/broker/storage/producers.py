"""Idempotent producers, per partition: what was last appended, to tell a retry from a gap."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.batch import NO_PRODUCER, BatchHeader

REMEMBERED_BATCHES = 5
_SEQUENCE_MASK = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class AppendedBatch:
    """One batch of a producer: its sequence numbers and where it went."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    timestamp_ms: int


@dataclass(slots=True)
class _Producer:
    epoch: int
    seen_ms: int
    batches: deque[AppendedBatch] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))


class ProducerStates:
    """The last batches of every producer of one partition, rebuilt from the log on start."""

    def __init__(self) -> None:
        self._producers: dict[int, _Producer] = {}

    def check(self, header: BatchHeader) -> AppendedBatch | None:
        """Returns the earlier batch if this one repeats it, None if it comes next.

        Raises RequestRefused with the code Apache Kafka gives: an older epoch is fenced, a
        gap is out of order. A producer unknown here may start anywhere, as its earlier
        records may have been deleted by retention.
        """
        producer = self._producers.get(header.producer_id)
        if header.producer_id == NO_PRODUCER or producer is None:
            return None
        if header.producer_epoch < producer.epoch:
            raise RequestRefused(ErrorCode.invalid_producer_epoch)
        if header.producer_epoch > producer.epoch:
            if header.base_sequence != 0:
                raise RequestRefused(ErrorCode.out_of_order_sequence_number)
            return None
        return self._repeated_or_next(producer, header)

    def note(self, header: BatchHeader, now_ms: int) -> None:
        """Remembers a batch that is in the log."""
        if header.producer_id == NO_PRODUCER:
            return
        producer = self._producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = _Producer(header.producer_epoch, now_ms)
            self._producers[header.producer_id] = producer
        producer.seen_ms = now_ms
        producer.batches.append(
            AppendedBatch(
                header.base_sequence,
                _last_sequence(header),
                header.base_offset,
                header.max_timestamp if header.is_log_append_time else -1,
            )
        )

    def expire(self, seen_before_ms: int) -> None:
        """Forgets producers that have not written since."""
        expired = [p for p, state in self._producers.items() if state.seen_ms < seen_before_ms]
        for producer_id in expired:
            del self._producers[producer_id]

    def dump(self) -> list[list[Any]]:
        """All states as plain JSON values."""
        return list(self._dump())

    @classmethod
    def load(cls, rows: list[list[Any]]) -> "ProducerStates":
        """The reverse of `dump`."""
        states = cls()
        for producer_id, epoch, seen_ms, batches in rows:
            producer = _Producer(epoch, seen_ms)
            producer.batches.extend(AppendedBatch(*batch) for batch in batches)
            states._producers[producer_id] = producer
        return states

    def _dump(self) -> Iterator[list[Any]]:
        for producer_id, state in self._producers.items():
            batches = [
                [b.first_sequence, b.last_sequence, b.base_offset, b.timestamp_ms]
                for b in state.batches
            ]
            yield [producer_id, state.epoch, state.seen_ms, batches]

    def _repeated_or_next(self, producer: _Producer, header: BatchHeader) -> AppendedBatch | None:
        first, last = header.base_sequence, _last_sequence(header)
        for batch in producer.batches:
            if (batch.first_sequence, batch.last_sequence) == (first, last):
                return batch
        expected = (producer.batches[-1].last_sequence + 1) & _SEQUENCE_MASK
        if first != expected:
            raise RequestRefused(ErrorCode.out_of_order_sequence_number)
        return None


def _last_sequence(header: BatchHeader) -> int:
    return (header.base_sequence + header.last_offset_delta) & _SEQUENCE_MASK
