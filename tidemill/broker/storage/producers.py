"""Producers with ids, per partition: what was last appended, to tell a retry from a gap.

Also which of them have a transaction open here.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.batch import NO_PRODUCER, BatchHeader
from tidemill.broker.storage.markers import Marker
from tidemill.broker.storage.transaction_index import AbortedTransaction, OpenTransactions

REMEMBERED_BATCHES = 5
_SEQUENCE_MASK = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class AppendedBatch:
    """One batch of a producer: its sequence numbers and where it went."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    timestamp_ms: int


class ActiveProducer(NamedTuple):
    """What a partition knows of a producer: its last batch and its open transaction."""

    producer_id: int
    epoch: int
    last_sequence: int
    seen_ms: int
    open_since_offset: int | None


@dataclass(slots=True)
class _Producer:
    epoch: int
    seen_ms: int
    batches: deque[AppendedBatch] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))


class ProducerStates:
    """The last batches of every producer of one partition, rebuilt from the log on start."""

    def __init__(self) -> None:
        self.open = OpenTransactions()
        self._producers: dict[int, _Producer] = {}

    def check(self, header: BatchHeader) -> AppendedBatch | None:
        """Returns the earlier batch if this one repeats it, None if it comes next.

        Raises RequestRefused with the code Apache Kafka gives: an older epoch is fenced, a
        gap is out of order, a plain batch amid a transaction has no place. A producer unknown
        here may start anywhere, as its earlier records may have been deleted by retention.
        """
        producer = self._producers.get(header.producer_id)
        if header.producer_id == NO_PRODUCER or producer is None:
            return None
        if header.producer_epoch < producer.epoch:
            raise RequestRefused(ErrorCode.invalid_producer_epoch)
        if header.producer_epoch > producer.epoch:
            if header.base_sequence != 0:
                raise RequestRefused(ErrorCode.out_of_order_sequence_number)
            repeated = None
        else:
            repeated = self._repeated_or_next(producer, header)
        if repeated is None and header.producer_id in self.open and not header.is_transactional:
            raise RequestRefused(ErrorCode.invalid_txn_state)
        return repeated

    def note(self, header: BatchHeader, now_ms: int) -> None:
        """Remembers a batch that is in the log."""
        if header.producer_id == NO_PRODUCER:
            return
        if header.is_transactional:
            self.open.begin(header.producer_id, header.base_offset)
        self._seen(header.producer_id, header.producer_epoch, now_ms).batches.append(
            AppendedBatch(
                header.base_sequence,
                header.last_sequence,
                header.base_offset,
                header.max_timestamp if header.is_log_append_time else -1,
            )
        )

    def note_marker(self, marker: Marker, offset: int, now_ms: int) -> AbortedTransaction | None:
        """Remembers a marker that is in the log; returns what readers are to skip, if anything."""
        self._seen(marker.producer_id, marker.epoch, now_ms)
        return self.open.end(marker.producer_id, offset, is_commit=marker.is_commit)

    def epoch_of(self, producer_id: int) -> int:
        """The epoch of a producer that has written here."""
        return self._producers[producer_id].epoch

    def expire(self, seen_before_ms: int) -> None:
        """Forgets producers that have not written since and have no transaction open."""
        expired = [p for p, state in self._producers.items() if state.seen_ms < seen_before_ms]
        for producer_id in expired:
            if producer_id not in self.open:
                del self._producers[producer_id]

    def last_sequences(self) -> frozenset[tuple[int, int, int]]:
        """(producer id, epoch, last sequence) of every producer known here."""
        return frozenset(
            (producer_id, state.epoch, state.batches[-1].last_sequence)
            for producer_id, state in self._producers.items()
            if state.batches
        )

    def active(self) -> Iterator[ActiveProducer]:
        """Every producer known here."""
        for producer_id, state in self._producers.items():
            last = state.batches[-1].last_sequence if state.batches else -1
            begun = self.open.first_offset_of(producer_id)
            yield ActiveProducer(producer_id, state.epoch, last, state.seen_ms, begun)

    def dump(self) -> list[list[Any]]:
        """All states as plain JSON values."""
        return list(self._dump())

    @classmethod
    def load(cls, rows: list[list[Any]]) -> "ProducerStates":
        """The reverse of `dump`."""
        states = cls()
        for producer_id, epoch, seen_ms, batches, _ in rows:
            producer = _Producer(epoch, seen_ms)
            producer.batches.extend(AppendedBatch(*batch) for batch in batches)
            states._producers[producer_id] = producer
        begun = [(row[0], row[4]) for row in rows if row[4] is not None]
        states.open = OpenTransactions(begun)
        return states

    def _seen(self, producer_id: int, epoch: int, now_ms: int) -> _Producer:
        producer = self._producers.get(producer_id)
        if producer is None or producer.epoch != epoch:
            producer = self._producers[producer_id] = _Producer(epoch, now_ms)
        producer.seen_ms = now_ms
        return producer

    def _dump(self) -> Iterator[list[Any]]:
        for producer_id, state in self._producers.items():
            batches = [
                [b.first_sequence, b.last_sequence, b.base_offset, b.timestamp_ms]
                for b in state.batches
            ]
            begun = self.open.first_offset_of(producer_id)
            yield [producer_id, state.epoch, state.seen_ms, batches, begun]

    def _repeated_or_next(self, producer: _Producer, header: BatchHeader) -> AppendedBatch | None:
        first, last = header.base_sequence, header.last_sequence
        for batch in producer.batches:
            if (batch.first_sequence, batch.last_sequence) == (first, last):
                return batch
        # A marker alone, its records deleted by retention, says nothing of sequences.
        if not producer.batches:
            return None
        expected = (producer.batches[-1].last_sequence + 1) & _SEQUENCE_MASK
        if first != expected:
            raise RequestRefused(ErrorCode.out_of_order_sequence_number)
        return None
