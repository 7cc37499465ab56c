"""The release ledger: invariants under any order of operations."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.evaluator.domain import releases
from services.evaluator.domain.releases import Change, Ledger, State, TransitionRefused

Operation = Callable[[Ledger], tuple[Change, ...]]


class AnyOrder(RuleBasedStateMachine):
    """Tries every operation on every release; most are refused, none may break the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.made = 0
        self.rejected: set[str] = set()
        self.read_in_force = ""

    def attempt(self, operation: Operation) -> None:
        try:
            changes = operation(self.ledger)
        except TransitionRefused:
            return
        for change in changes:
            assert change.epoch > self.ledger.epoch
            self.ledger = self.ledger.after((change,))
            self.read(change)

    def read(self, change: Change) -> None:
        """A reader of the log, one change at a time: the last promotion is in force."""
        if change.state is State.PROMOTED:
            self.read_in_force = change.release_id
        if change.state in (State.ROLLED_BACK, State.SUPERSEDED, State.REJECTED):
            assert change.release_id != self.read_in_force

    def some_release(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(["unknown", *self.ledger.entries]))

    @rule()
    def adopt_first(self) -> None:
        self.attempt(lambda ledger: releases.adopt_first(ledger, "base"))

    @rule()
    def propose(self) -> None:
        self.made += 1
        self.attempt(lambda ledger: releases.propose(ledger, f"rel_{self.made}"))

    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        name = self.some_release(data)
        self.attempt(lambda ledger: releases.reject(ledger, name, ("EFFECT_TOO_SMALL",)))
        if name in self.ledger.entries and self.ledger.entries[name].state is State.REJECTED:
            self.rejected.add(name)

    @rule(data=st.data())
    def start_canary(self, data: st.DataObject) -> None:
        name = self.some_release(data)
        self.attempt(lambda ledger: releases.start_canary(ledger, name))

    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        name = self.some_release(data)
        self.attempt(lambda ledger: releases.promote(ledger, name, ()))

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        name = self.some_release(data)
        self.attempt(lambda ledger: releases.roll_back(ledger, name, ()))

    @precondition(lambda self: self.ledger.entries)
    @invariant()
    def one_release_is_in_force_and_readers_know_it(self) -> None:
        promoted = self.in_state(State.PROMOTED)
        assert promoted == [self.read_in_force]

    @invariant()
    def at_most_one_candidate(self) -> None:
        assert len(self.in_state(State.PROPOSED) + self.in_state(State.CANARY)) <= 1

    @invariant()
    def rejected_releases_never_go_live(self) -> None:
        assert all(self.ledger.entries[name].state is State.REJECTED for name in self.rejected)

    @invariant()
    def a_candidate_was_judged_against_the_release_in_force(self) -> None:
        candidate, in_force = self.ledger.candidate, self.ledger.in_force
        if candidate is not None and in_force is not None:
            assert candidate.parent_id == in_force.release_id

    def in_state(self, state: State) -> list[str]:
        return [entry.release_id for entry in self.ledger.entries.values() if entry.state is state]


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def ledger_with_canary() -> Ledger:
    ledger = Ledger()
    for operation in (
        lambda held: releases.adopt_first(held, "base"),
        lambda held: releases.propose(held, "rel_1"),
        lambda held: releases.start_canary(held, "rel_1"),
    ):
        ledger = ledger.after(operation(ledger))
    return ledger


def test_a_promotion_supersedes_the_parent_and_a_rollback_brings_it_back() -> None:
    ledger = ledger_with_canary()
    ledger = ledger.after(releases.promote(ledger, "rel_1", ("CANARY_PASSED",)))
    assert ledger.in_force is not None
    assert ledger.in_force.release_id == "rel_1"
    assert ledger.entries["base"].state is State.SUPERSEDED
    ledger = ledger.after(releases.roll_back(ledger, "rel_1", (releases.REQUESTED,)))
    assert ledger.entries["rel_1"].state is State.ROLLED_BACK
    assert ledger.entries["base"].state is State.PROMOTED


def test_a_rollback_of_the_release_in_force_ends_its_candidate() -> None:
    ledger = ledger_with_canary()
    ledger = ledger.after(releases.promote(ledger, "rel_1", ()))
    ledger = ledger.after(releases.propose(ledger, "rel_2"))
    changes = releases.roll_back(ledger, "rel_1", (releases.REQUESTED,))
    assert [(change.release_id, change.state, change.reasons) for change in changes] == [
        ("base", State.PROMOTED, ()),
        ("rel_1", State.ROLLED_BACK, ("REQUESTED",)),
        ("rel_2", State.REJECTED, ("PARENT_ROLLED_BACK",)),
    ]


def test_the_first_release_has_nothing_to_go_back_to() -> None:
    ledger = Ledger().after(releases.adopt_first(Ledger(), "base"))
    with pytest.raises(TransitionRefused, match="NO_PARENT"):
        releases.roll_back(ledger, "base", ())


def test_a_second_promotion_of_the_same_canary_is_refused() -> None:
    ledger = ledger_with_canary()
    ledger = ledger.after(releases.promote(ledger, "rel_1", ()))
    with pytest.raises(TransitionRefused, match="NOT_CANARY"):
        releases.promote(ledger, "rel_1", ())
