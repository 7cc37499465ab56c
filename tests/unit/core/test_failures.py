"""How long a delivery is tried, and when a consumer stops by itself."""

import random
from dataclasses import replace

from tidemill.backoff import Backoff
from tidemill.bus.failures import (
    DELIVERY_BACKOFF,
    DlqCircuitBreaker,
    Failure,
    Kind,
    RetryPolicy,
    Tries,
)
from tidemill.db.rivals import MOST_LOST, rival_won
from tidemill.faults import Fault, Reason

OWN = Failure(Fault(Reason.INTERNAL), Kind.HANDLER_ERROR)
FINAL = Failure(Fault(Reason.DOCUMENT_BROKEN), Kind.FINAL)
CONFLICT = Failure(rival_won(), Kind.CONFLICT)


def tries(**counts: int) -> Tries:
    """Of a delivery that was first tried at the monotonic time 0."""
    return Tries(0.0, **counts)


DOWN = Failure(Fault(Reason.DEPENDENCY_UNAVAILABLE), Kind.DEPENDENCY)


def test_own_failures_are_tried_three_times() -> None:
    policy = RetryPolicy()
    assert [policy.again(OWN, tries(own=n), 0.0) for n in (1, 2, 3)] == [True, True, False]


def test_a_final_failure_is_not_tried_again() -> None:
    assert not RetryPolicy().again(FINAL, tries(own=1), 0.0)


def test_a_dependency_is_waited_for_by_time_not_by_count() -> None:
    policy = RetryPolicy(hold_seconds=900)
    assert policy.again(DOWN, tries(count=1_000), 899.0)
    assert not policy.again(DOWN, tries(count=2), 900.0)


def test_a_lost_race_counts_for_nothing_until_there_are_many() -> None:
    policy = RetryPolicy(hold_seconds=0)
    lost = tries()
    for _ in range(MOST_LOST):
        lost.note(CONFLICT)
    assert (lost.own, policy.again(CONFLICT, lost, 1.0)) == (0, True)
    lost.note(CONFLICT)
    assert not policy.again(CONFLICT, lost, 1.0)


def test_a_dependency_that_is_back_is_tried_within_ten_seconds() -> None:
    longest = RetryPolicy(backoff=replace(DELIVERY_BACKOFF, draw=lambda: 1.0))
    assert longest.pause(DOWN, tries(count=1_000)) < 10


def test_waits_double_up_to_a_limit() -> None:
    longest = Backoff(0.2, 15, draw=lambda: 1.0)
    assert [longest.delay(n) for n in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert longest.delay(10_000) == 15


def test_waits_are_drawn_between_nothing_and_their_limit() -> None:
    backoff = Backoff(1, 15, draw=random.Random(7).random)
    delays = [backoff.delay(3) for _ in range(1_000)]
    assert 0 <= min(delays) < 0.1
    assert 3.9 < max(delays) <= 4
    assert 1.8 < sum(delays) / 1_000 < 2.2


def test_the_circuit_breaker_trips_on_a_run_of_dead_letters() -> None:
    breaker = DlqCircuitBreaker(in_a_row=3)
    for _ in range(2):
        breaker.dead_lettered()
    breaker.applied()
    for _ in range(2):
        breaker.dead_lettered()
    assert not breaker.tripped
    breaker.dead_lettered()
    assert breaker.tripped


def test_the_circuit_breaker_trips_on_a_share_of_a_full_window() -> None:
    breaker = DlqCircuitBreaker(in_a_row=100, window=100, share=0.1)
    for number in range(99):
        breaker.dead_lettered() if number % 8 == 0 else breaker.applied()
    assert not breaker.tripped
    breaker.applied()
    assert breaker.tripped


def test_a_tenth_of_dead_letters_is_borne() -> None:
    breaker = DlqCircuitBreaker(window=100, share=0.1)
    for number in range(1_000):
        breaker.dead_lettered() if number % 10 == 0 else breaker.applied()
    assert not breaker.tripped
