"""A transactional id as a state machine: a value in, the next value out; no clock, no I/O.

Methods return the next state or raise RequestRefused with the code Apache Kafka answers.
Nothing changes in place, so that the next state can be journaled before it counts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.offsets import CommittedOffset, TopicPartition

MAX_EPOCH = 32_767
ProducerKey = tuple[int, int]
Rows = Mapping[TopicPartition, CommittedOffset]


class TransactionState(StrEnum):
    """Kafka's names. What is prepared is decided; what is complete has been carried out."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"


_S = TransactionState
_COMPLETED = {_S.PREPARE_COMMIT: _S.COMPLETE_COMMIT, _S.PREPARE_ABORT: _S.COMPLETE_ABORT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The present or last transaction of a transactional id; times are in milliseconds.

    `previous` is the producer id and epoch from before a bump that their holder asked for.
    """

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    updated_ms: int
    started_ms: int = -1
    state: TransactionState = TransactionState.EMPTY
    previous: ProducerKey | None = None
    partitions: frozenset[TopicPartition] = frozenset()
    groups: frozenset[str] = frozenset()
    offsets: Mapping[str, Rows] = field(default_factory=dict)

    @property
    def is_ongoing(self) -> bool:
        """Whether it is open and undecided."""
        return self.state is _S.ONGOING

    @property
    def is_decided(self) -> bool:
        """Whether its outcome has been decided but not carried out."""
        return self.state in _COMPLETED

    @property
    def is_commit(self) -> bool:
        """The outcome of a decided one."""
        return self.state is _S.PREPARE_COMMIT

    def has_timed_out(self, now_ms: int) -> bool:
        """Whether it has been open for longer than its producer allowed."""
        return self.is_ongoing and now_ms > self.started_ms + self.timeout_ms

    # -- what clients ask

    def check_claim(self, claim: ProducerKey) -> None:
        """A producer that wants a new epoch must hold the present one, or be repeating itself."""
        if claim not in ((self.producer_id, self.epoch), self.previous):
            raise RequestRefused(ErrorCode.producer_fenced)

    def initialized(
        self,
        now_ms: int,
        timeout_ms: int,
        claim: ProducerKey | None,
        new_producer_id: Callable[[], int],
    ) -> "Transaction":
        """The next epoch, for a producer that starts; fences all that came before.

        With a claim equal to `previous` the earlier answer was lost: nothing is bumped again.
        """
        self._check_not_decided()
        if claim is not None:
            self.check_claim(claim)
        key = (self.producer_id, self.epoch)
        if claim is None or claim == key:
            previous = None if claim is None else key
            # The last epoch is left to fencing.
            key = (new_producer_id(), 0) if self.epoch >= MAX_EPOCH - 1 else (key[0], key[1] + 1)
        else:
            previous = self.previous
        return Transaction(
            transactional_id=self.transactional_id,
            producer_id=key[0],
            epoch=key[1],
            previous=previous,
            timeout_ms=timeout_ms,
            updated_ms=now_ms,
        )

    def check_holder(self, producer_id: int, epoch: int) -> None:
        """Whether this producer may act for the transactional id."""
        if producer_id != self.producer_id:
            raise RequestRefused(ErrorCode.invalid_producer_id_mapping)
        if epoch != self.epoch:
            raise RequestRefused(ErrorCode.producer_fenced)

    def check_write(self, producer_id: int, epoch: int, partition: TopicPartition) -> None:
        """Whether a batch may be appended to a partition."""
        self.check_holder(producer_id, epoch)
        if not self.is_ongoing or partition not in self.partitions:
            raise RequestRefused(ErrorCode.invalid_txn_state)

    def with_partitions(self, now_ms: int, more: Iterable[TopicPartition]) -> "Transaction":
        """Partitions it is going to write to; the first ones begin a transaction."""
        begun = self._begun(now_ms)
        return replace(begun, partitions=begun.partitions | set(more))

    def with_group(self, now_ms: int, group_id: str) -> "Transaction":
        """A group whose offsets it is going to commit; that also begins a transaction."""
        begun = self._begun(now_ms)
        return replace(begun, groups=begun.groups | {group_id})

    def with_offsets(self, group_id: str, rows: Rows) -> "Transaction":
        """Offsets that take effect if it commits."""
        if not self.is_ongoing or group_id not in self.groups:
            raise RequestRefused(ErrorCode.invalid_txn_state)
        merged = {**self.offsets.get(group_id, {}), **rows}
        return replace(self, offsets={**self.offsets, group_id: merged})

    def ended(self, now_ms: int, *, is_commit: bool) -> "Transaction":
        """The decision. Asked again after it was carried out, nothing changes."""
        decided = _S.PREPARE_COMMIT if is_commit else _S.PREPARE_ABORT
        if self.is_ongoing:
            return replace(self, state=decided, updated_ms=now_ms)
        if self.state is decided:
            raise RequestRefused(ErrorCode.concurrent_transactions)
        if self.state is _COMPLETED[decided]:
            return self
        raise RequestRefused(ErrorCode.invalid_txn_state)

    # -- what the coordinator does

    def fenced(self, now_ms: int) -> "Transaction":
        """Aborted under an epoch that nobody is given, so that its producer is shut out."""
        epoch = min(self.epoch + 1, MAX_EPOCH)
        aborted = self.ended(now_ms, is_commit=False)
        return replace(aborted, epoch=epoch, previous=None)

    def completed(self, now_ms: int) -> "Transaction":
        """The outcome has been carried out."""
        return replace(
            self,
            state=_COMPLETED[self.state],
            updated_ms=now_ms,
            started_ms=-1,
            partitions=frozenset(),
            groups=frozenset(),
            offsets={},
        )

    def without_offsets(self, group_id: str, gone: Iterable[TopicPartition]) -> "Transaction":
        """Offsets that something later has overtaken."""
        rows, overtaken = self.offsets.get(group_id, {}), set(gone)
        kept = {partition: row for partition, row in rows.items() if partition not in overtaken}
        return self if len(kept) == len(rows) else self._with_rows(group_id, kept)

    def without_group(self, group_id: str) -> "Transaction":
        """The group was deleted."""
        return self._with_rows(group_id, {}) if group_id in self.offsets else self

    def without_topic(self, topic: str) -> "Transaction":
        """The topic was deleted."""
        partitions = frozenset(p for p in self.partitions if p[0] != topic)
        smaller = self if partitions == self.partitions else replace(self, partitions=partitions)
        for group_id, rows in self.offsets.items():
            smaller = smaller.without_offsets(group_id, [p for p in rows if p[0] == topic])
        return smaller

    # -- inside

    def _check_not_decided(self) -> None:
        if self.is_decided:
            raise RequestRefused(ErrorCode.concurrent_transactions)

    def _begun(self, now_ms: int) -> "Transaction":
        self._check_not_decided()
        if self.is_ongoing:
            return self
        return replace(self, state=_S.ONGOING, started_ms=now_ms, updated_ms=now_ms)

    def _with_rows(self, group_id: str, rows: Rows) -> "Transaction":
        others = {group: kept for group, kept in self.offsets.items() if group != group_id}
        return replace(self, offsets={**others, group_id: rows} if rows else others)
