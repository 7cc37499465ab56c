"""The state machine of a transactional id under any order of requests, timeouts and restarts."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.offsets import CommittedOffset
from tidemill.broker.transactions.records import restore_transaction, transaction_record
from tidemill.broker.transactions.transaction import (
    MAX_EPOCH,
    ProducerKey,
    Transaction,
    TransactionState,
)

TIMEOUT_MS = 1_000
PARTITIONS = st.sampled_from([("a", 0), ("a", 1), ("b", 0)])
GROUPS = st.sampled_from(["g", "h"])
# Which producer asks: the last that was given a key, one before it, or a made-up one.
ASKERS = st.sampled_from([0] * 9 + [1, 2, 3])
PREPARED = (TransactionState.PREPARE_ABORT, TransactionState.PREPARE_COMMIT)
COMPLETE = (TransactionState.COMPLETE_ABORT, TransactionState.COMPLETE_COMMIT)
STRANGERS = (ErrorCode.producer_fenced, ErrorCode.invalid_producer_id_mapping)


class TransactionMachine(RuleBasedStateMachine):
    """Drives one transactional id; `given` are the keys of producers, in order."""

    @initialize(epoch=st.sampled_from([0, MAX_EPOCH - 4, MAX_EPOCH - 1]))
    def begin(self, epoch: int) -> None:
        self.now = 0
        self.next_id = 8
        self.present = Transaction(
            transactional_id="id", producer_id=7, epoch=epoch, timeout_ms=TIMEOUT_MS, updated_ms=0
        )
        self.given: list[ProducerKey] = [(7, epoch)]
        self.holder: ProducerKey | None = (7, epoch)
        self.wanted: dict[str, Any] = {"partitions": set(), "groups": set(), "offsets": {}}
        self.decision: bool | None = None

    def _key(self, asker: int) -> ProducerKey:
        return self.given[-1 - asker] if asker < len(self.given) else (99, 0)

    def _next_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _step(self, step: Callable[[], Transaction]) -> ErrorCode | None:
        """Takes one step, or says why it was refused; then nothing has changed."""
        try:
            self.present = step()
        except RequestRefused as refused:
            return refused.code
        return None

    def _may_act(self, key: ProducerKey) -> bool:
        try:
            self.present.check_holder(*key)
        except RequestRefused as refused:
            assert key != self.holder
            return refused.code not in STRANGERS
        assert key == self.holder, "only the last producer that started may act"
        return True

    @rule(asker=ASKERS, claims=st.booleans())
    def start_a_producer(self, asker: int, claims: bool) -> None:
        self._start(self._key(asker) if claims else None)

    @precondition(lambda self: self.present.previous is not None)
    @rule()
    def start_again_as_the_answer_was_lost(self) -> None:
        self._start(self.present.previous)

    def _start(self, claim: ProducerKey | None) -> None:
        held = ((self.present.producer_id, self.present.epoch), self.present.previous)
        if self.present.is_ongoing and (claim is None or claim in held):
            self._fence()
            self.complete()
            claim = None
        previous = self.present.previous
        code = self._step(
            lambda: self.present.initialized(self.now, TIMEOUT_MS, claim, self._next_id)
        )
        if code is ErrorCode.concurrent_transactions:
            assert self.decision is not None
        elif code is ErrorCode.producer_fenced:
            assert claim not in held
        else:
            assert code is None
            self._was_given((self.present.producer_id, self.present.epoch), claim, previous)

    def _was_given(
        self, key: ProducerKey, claim: ProducerKey | None, previous: ProducerKey | None
    ) -> None:
        if claim is not None and claim == previous:
            assert key == self.given[-1], "a repeated request gets the same answer again"
        else:
            self.given.append(key)
        self.holder = key

    @rule(asker=ASKERS, partition=PARTITIONS)
    def add_partition(self, asker: int, partition: tuple[str, int]) -> None:
        if not self._may_act(self._key(asker)):
            return
        code = self._step(lambda: self.present.with_partitions(self.now, [partition]))
        if code is None:
            self.wanted["partitions"].add(partition)
            self.present.check_write(*self._key(asker), partition)
        else:
            assert (code, self.decision is None) == (ErrorCode.concurrent_transactions, False)

    @rule(asker=ASKERS, group=GROUPS)
    def add_group(self, asker: int, group: str) -> None:
        if not self._may_act(self._key(asker)):
            return
        code = self._step(lambda: self.present.with_group(self.now, group))
        if code is None:
            self.wanted["groups"].add(group)
        else:
            assert (code, self.decision is None) == (ErrorCode.concurrent_transactions, False)

    @rule(asker=ASKERS, group=GROUPS, partition=PARTITIONS, offset=st.integers(0, 9))
    def add_offset(self, asker: int, group: str, partition: tuple[str, int], offset: int) -> None:
        if not self._may_act(self._key(asker)):
            return
        rows = {partition: CommittedOffset(offset, -1, "", self.now)}
        code = self._step(lambda: self.present.with_offsets(group, rows))
        if group in self.wanted["groups"] and self.decision is None:
            assert code is None
            self.wanted["offsets"].setdefault(group, {}).update(rows)
        else:
            assert code is ErrorCode.invalid_txn_state

    @rule(group=GROUPS, partition=PARTITIONS, offset=st.integers(0, 9))
    def add_group_and_offset(self, group: str, partition: tuple[str, int], offset: int) -> None:
        self.add_group(0, group)
        self.add_offset(0, group, partition, offset)

    @rule(group=GROUPS, partition=PARTITIONS)
    def overtake(self, group: str, partition: tuple[str, int]) -> None:
        self.present = self.present.without_offsets(group, [partition])
        rows = self.wanted["offsets"].get(group, {})
        rows.pop(partition, None)
        if not rows:
            self.wanted["offsets"].pop(group, None)

    @rule(asker=ASKERS, is_commit=st.booleans())
    def end(self, asker: int, is_commit: bool) -> None:
        if not self._may_act(self._key(asker)):
            return
        before, decision = self.present, self.decision
        code = self._step(lambda: before.ended(self.now, is_commit=is_commit))
        if before.is_ongoing:
            assert code is None
            self.decision = is_commit
        elif decision is is_commit:
            assert code is ErrorCode.concurrent_transactions
        elif before.state is COMPLETE[is_commit]:
            assert self.present is before, "asked again, nothing changes"
        else:
            assert code is ErrorCode.invalid_txn_state

    def _fence(self) -> None:
        self.present = self.present.fenced(self.now)
        self.decision = False
        self.holder = None

    @rule(milliseconds=st.integers(0, 2 * TIMEOUT_MS))
    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        if self.present.has_timed_out(self.now):
            self._fence()

    @precondition(lambda self: self.present.is_decided)
    @rule()
    def complete(self) -> None:
        assert self.present.is_commit is self.decision
        self.present = self.present.completed(self.now)
        self.decision = None
        self.wanted = {"partitions": set(), "groups": set(), "offsets": {}}

    @rule()
    def restart(self) -> None:
        record = json.loads(json.dumps(transaction_record(self.present)))
        restored = restore_transaction(record)
        assert restored == self.present
        self.present = restored

    @invariant()
    def it_holds_what_was_asked_for_until_its_outcome_is_carried_out(self) -> None:
        assert self.present.partitions == self.wanted["partitions"]
        assert self.present.groups == self.wanted["groups"]
        assert self.present.offsets == self.wanted["offsets"]

    @invariant()
    def a_decision_stands_until_it_is_carried_out(self) -> None:
        assert self.present.is_decided == (self.decision is not None)
        if self.decision is not None:
            assert self.present.state is PREPARED[self.decision]

    @invariant()
    def it_is_open_while_there_is_something_to_decide(self) -> None:
        has_something = bool(self.wanted["partitions"] or self.wanted["groups"])
        assert (self.present.is_ongoing or self.present.is_decided) == has_something

    @invariant()
    def keys_are_never_given_twice_and_epochs_stay_in_range(self) -> None:
        assert len(set(self.given)) == len(self.given)
        assert 0 <= self.present.epoch <= MAX_EPOCH
        assert all(epoch < MAX_EPOCH for _, epoch in self.given), "the last one is for fencing"


TestTransaction = TransactionMachine.TestCase
TestTransaction.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
