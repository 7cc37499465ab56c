"""Runs the transactions: journals each step before it counts, and carries out the outcome.

The order is decision, markers, offsets, completion. A broker killed anywhere between them
finds the decision in its journal and does the rest when it starts.
"""

from collections.abc import Iterable, Iterator

import structlog
from kio.schema.errors import ErrorCode

from tidemill.broker.clock import Clock
from tidemill.broker.durability import Durability
from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.offsets import TopicPartition
from tidemill.broker.producer_ids import ProducerIds
from tidemill.broker.settings import TransactionLimits
from tidemill.broker.storage.journal import Journal, Record
from tidemill.broker.transactions.outcome import Outcome
from tidemill.broker.transactions.records import restore_transaction, transaction_record
from tidemill.broker.transactions.transaction import ProducerKey, Rows, Transaction

_log = structlog.get_logger(__name__)


class TransactionCoordinator:
    """All transactional ids of the broker. Methods raise RequestRefused."""

    def __init__(
        self,
        journal: Journal,
        durability: Durability,
        outcome: Outcome,
        producer_ids: ProducerIds,
        limits: TransactionLimits,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._durability = durability
        self._outcome = outcome
        self._producer_ids = producer_ids
        self._limits = limits
        self._clock = clock
        self._transactions: dict[str, Transaction] = {}
        self._being_carried_out: set[str] = set()

    # -- what clients ask

    async def initialize(
        self, transactional_id: str, timeout_ms: int, claim: ProducerKey | None
    ) -> ProducerKey:
        """Gives a starting producer its id and epoch, and aborts what an earlier one left open."""
        if not transactional_id:
            raise RequestRefused(ErrorCode.invalid_request)
        if not 0 < timeout_ms <= self._limits.max_timeout_ms:
            raise RequestRefused(ErrorCode.invalid_transaction_timeout)
        present = self._transactions.get(transactional_id)
        if present is not None and present.is_ongoing:
            if claim is not None:
                present.check_claim(claim)
            await self._decide(present.fenced(self._clock.now_ms()))
            present, claim = self._transactions[transactional_id], None
        started = self._initialized(transactional_id, present, timeout_ms, claim)
        self._put(started)
        await self._durability.confirm_journal()
        return started.producer_id, started.epoch

    def find(self, transactional_id: str | None, producer_id: int, epoch: int) -> Transaction:
        """The transaction of the one producer that may act for this id."""
        if not transactional_id:
            raise RequestRefused(ErrorCode.invalid_request)
        present = self._transactions.get(transactional_id)
        if present is None:
            raise RequestRefused(ErrorCode.invalid_producer_id_mapping)
        present.check_holder(producer_id, epoch)
        return present

    def add_partitions(self, present: Transaction, partitions: Iterable[TopicPartition]) -> None:
        """Journals where the producer is going to write, before it does."""
        self._change(present, present.with_partitions(self._clock.now_ms(), partitions))

    def add_group(self, present: Transaction, group_id: str) -> None:
        """Journals that offsets of a group are going to be part of it."""
        changed = present.with_group(self._clock.now_ms(), group_id)
        if len(changed.groups) > self._limits.max_groups:
            raise RequestRefused(ErrorCode.policy_violation)
        self._change(present, changed)

    def add_offsets(self, present: Transaction, group_id: str, rows: Rows) -> None:
        """Journals offsets that the commit will show."""
        self._change(present, present.with_offsets(group_id, rows))

    async def end(self, present: Transaction, *, is_commit: bool) -> None:
        """Decides; returns when that is on record. What is left to carry out is tried again."""
        decided = present.ended(self._clock.now_ms(), is_commit=is_commit)
        if decided is not present:
            await self._decide(decided)

    def check_write(
        self, transactional_id: str | None, producer_id: int, epoch: int, partition: TopicPartition
    ) -> None:
        """Whether a producer may append a batch of a transaction to a partition."""
        if not transactional_id:
            raise RequestRefused(ErrorCode.transactional_id_authorization_failed)
        present = self._transactions.get(transactional_id)
        if present is None:
            raise RequestRefused(ErrorCode.invalid_producer_id_mapping)
        present.check_write(producer_id, epoch, partition)

    # -- what others need to know, and to tell

    def pending_offsets(self, group_id: str) -> set[TopicPartition]:
        """Partitions whose committed offset of the group an open transaction may change."""
        rows = (transaction.offsets.get(group_id, {}) for transaction in self._all())
        return {partition for each in rows for partition in each}

    def overtake(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Offsets were committed or deleted outside any transaction: earlier ones are void."""
        gone = set(partitions)
        for present in self._all():
            self._change(present, present.without_offsets(group_id, gone))

    def forget_group(self, group_id: str) -> None:
        """A group was deleted."""
        for present in self._all():
            self._change(present, present.without_group(group_id))

    def forget_topic(self, topic: str) -> None:
        """A topic was deleted; one of the same name is another one."""
        for present in self._all():
            self._change(present, present.without_topic(topic))

    def all(self) -> list[Transaction]:
        """The present or last transaction of every id."""
        return self._all()

    # -- time

    async def expire(self) -> None:
        """Aborts what took too long, finishes what a full disk held up, forgets unused ids."""
        for transactional_id in list(self._transactions):
            try:
                await self._advance(transactional_id)
            except RequestRefused as refused:
                _log.warning("transaction_not_advanced", reason=refused.code.name)

    # -- journal

    def replay(self, record: Record) -> None:
        """Takes one journal record; call `recover` after the last one."""
        if record["kind"] == "transaction":
            self._transactions[record["id"]] = restore_transaction(record)
        else:
            self._transactions.pop(record["id"], None)

    def recover(self) -> None:
        """Carries out what was decided before the end of the last process; raises OSError too."""
        decided = [transaction for transaction in self._all() if transaction.is_decided]
        if decided:
            # A power cut must not find markers of a decision that it takes back.
            self._journal.sync()
        for transaction in decided:
            for partition in self._outcome.mark(transaction):
                partition.sync()
            self._outcome.show_offsets(transaction)
            self._put(transaction.completed(self._clock.now_ms()))
        unknown = self._outcome.abort_unknown(
            {(t.producer_id, *partition) for t in self._all() for partition in t.partitions}
        )
        if decided or unknown:
            _log.warning("transactions_recovered", carried_out=len(decided), aborted=unknown)

    def snapshot(self) -> Iterator[Record]:
        """Journal records that give the present state."""
        yield from map(transaction_record, self._all())

    # -- inside

    def _all(self) -> list[Transaction]:
        return list(self._transactions.values())

    def _initialized(
        self,
        transactional_id: str,
        present: Transaction | None,
        timeout_ms: int,
        claim: ProducerKey | None,
    ) -> Transaction:
        now_ms = self._clock.now_ms()
        if present is not None:
            return present.initialized(now_ms, timeout_ms, claim, self._producer_ids.allocate)
        if len(self._transactions) >= self._limits.max_ids:
            raise RequestRefused(ErrorCode.coordinator_not_available)
        return Transaction(
            transactional_id=transactional_id,
            producer_id=self._producer_ids.allocate(),
            epoch=0,
            timeout_ms=timeout_ms,
            updated_ms=now_ms,
        )

    async def _advance(self, transactional_id: str) -> None:
        present, now_ms = self._transactions[transactional_id], self._clock.now_ms()
        if present.has_timed_out(now_ms):
            _log.warning("transaction_timed_out", timeout_ms=present.timeout_ms)
            await self._decide(present.fenced(now_ms))
        elif present.is_decided:
            await self._carry_out(transactional_id)
        elif not present.is_ongoing and present.updated_ms < now_ms - self._limits.id_expiry_ms:
            self._append({"kind": "transaction_forgotten", "id": transactional_id})
            del self._transactions[transactional_id]

    async def _decide(self, decided: Transaction) -> None:
        self._put(decided)
        await self._durability.confirm_journal()
        await self._carry_out(decided.transactional_id)

    async def _carry_out(self, transactional_id: str) -> None:
        is_decided = self._transactions[transactional_id].is_decided
        if not is_decided or transactional_id in self._being_carried_out:
            return
        self._being_carried_out.add(transactional_id)
        try:
            await self._durability.confirm_journal()
            for partition in self._outcome.mark(self._transactions[transactional_id]):
                await self._durability.confirm(partition)
            # While a sync was waited for, some of its offsets may have been overtaken.
            present = self._transactions[transactional_id]
            self._outcome.show_offsets(present)
            self._put(present.completed(self._clock.now_ms()))
        except RequestRefused as refused:
            _log.warning("transaction_not_carried_out_yet", reason=refused.code.name)
        finally:
            self._being_carried_out.discard(transactional_id)

    def _change(self, present: Transaction, changed: Transaction) -> None:
        if changed != present:
            self._put(changed)

    def _put(self, transaction: Transaction) -> None:
        self._append(transaction_record(transaction))
        self._transactions[transaction.transactional_id] = transaction

    def _append(self, record: Record) -> None:
        try:
            self._journal.append(record)
        except OSError as error:
            raise RequestRefused(ErrorCode.coordinator_not_available) from error
