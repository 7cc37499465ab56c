"""How long a delivery is tried, and when a consumer stops by itself."""

import random

from tidemill.backoff import Backoff
from tidemill.bus.policy import Failure, FloodBrake, Kind, RetryPolicy
from tidemill.faults import Fault, Reason

OWN = Failure(Fault(Reason.INTERNAL), Kind.OWN)
FINAL = Failure(Fault(Reason.DOCUMENT_BROKEN), Kind.FINAL)
DOWN = Failure(Fault(Reason.DEPENDENCY_UNAVAILABLE), Kind.DEPENDENCY)


def test_own_failures_are_tried_three_times() -> None:
    policy = RetryPolicy()
    assert [policy.again(OWN, attempt, 0.0) for attempt in (1, 2, 3)] == [True, True, False]


def test_a_final_failure_is_not_tried_again() -> None:
    assert not RetryPolicy().again(FINAL, 1, 0.0)


def test_a_part_that_is_down_is_waited_for_by_time_not_by_count() -> None:
    policy = RetryPolicy(hold_seconds=900)
    assert policy.again(DOWN, 1_000, 899.0)
    assert not policy.again(DOWN, 2, 900.0)


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


def test_the_brake_trips_on_a_run_of_dead_letters() -> None:
    brake = FloodBrake(in_a_row=3)
    for _ in range(2):
        brake.parked()
    brake.applied()
    for _ in range(2):
        brake.parked()
    assert not brake.tripped
    brake.parked()
    assert brake.tripped


def test_the_brake_trips_on_a_share_of_a_full_window() -> None:
    brake = FloodBrake(in_a_row=100, window=100, share=0.1)
    for number in range(99):
        brake.parked() if number % 8 == 0 else brake.applied()
    assert not brake.tripped
    brake.applied()
    assert brake.tripped


def test_a_tenth_of_dead_letters_is_borne() -> None:
    brake = FloodBrake(window=100, share=0.1)
    for number in range(1_000):
        brake.parked() if number % 10 == 0 else brake.applied()
    assert not brake.tripped
