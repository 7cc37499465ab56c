"""The canary's judgement on live answers."""

import numpy as np
import pytest

from services.evaluator.domain.canary import Action, Arm, Judgement, is_breaking, judge_canary
from services.evaluator.settings import CanaryRules

RULES = CanaryRules()
CONTROL = Arm(answers=60, errors=1, refusals=6, durations=(2.0,) * 60, thumbs_up=9, thumbs_down=3)
GOOD = Arm(answers=20, errors=0, refusals=3, durations=(2.0,) * 20, thumbs_up=5, thumbs_down=1)


def judge(canary: Arm, control: Arm = CONTROL, elapsed: float = 60.0) -> Judgement:
    return judge_canary(canary, control, elapsed, expected_refusal_gap=0.0, rules=RULES)


def test_enough_good_answers_promote() -> None:
    assert judge(GOOD) == Judgement(Action.PROMOTE, ("CANARY_PASSED",))


@pytest.mark.parametrize(
    ("canary", "control", "elapsed"),
    [
        (GOOD, CONTROL, 29.0),
        (Arm(answers=19, durations=(2.0,) * 19), CONTROL, 60.0),
        (GOOD, Arm(answers=19, durations=(2.0,) * 19), 60.0),
        (Arm(), Arm(), 0.0),
    ],
)
def test_it_waits_for_time_and_for_answers_of_both_arms(
    canary: Arm, control: Arm, elapsed: float
) -> None:
    assert judge(canary, control, elapsed).action is Action.WAIT


def test_errors_in_a_row_roll_back_before_the_window_ends() -> None:
    assert judge(Arm(answers=3, errors=3), elapsed=1.0) == Judgement(
        Action.ROLL_BACK, ("CANARY_ERRORS",)
    )


def test_one_early_error_does_not_roll_back() -> None:
    assert judge(Arm(answers=1, errors=1), elapsed=1.0).action is Action.WAIT


def test_an_outage_that_both_arms_see_is_not_the_canary_s_fault() -> None:
    outage = Arm(answers=10, errors=10)
    assert not is_breaking(outage, Arm(answers=30, errors=30), RULES)
    assert is_breaking(outage, Arm(answers=30, errors=1), RULES)


def test_a_normal_error_share_is_rarely_rolled_back_however_often_it_is_looked_at() -> None:
    random = np.random.default_rng(3)
    rolled_back, control = 0, Arm(answers=1_000, errors=20)
    for _ in range(500):
        errors = np.cumsum(random.random(100) < RULES.normal_error_share)
        rolled_back += any(
            is_breaking(Arm(answers=n, errors=int(seen)), control, RULES)
            for n, seen in enumerate(errors, start=1)
        )
    # The promise is 5 in 500; more than 13 have a chance below 0.001.
    assert rolled_back <= 13


def test_a_broken_error_share_is_rolled_back_within_a_hundred_answers() -> None:
    random = np.random.default_rng(4)
    errors = [np.cumsum(random.random(100) < RULES.broken_error_share) for _ in range(100)]
    caught = sum(
        any(
            is_breaking(Arm(answers=n, errors=int(seen)), CONTROL, RULES)
            for n, seen in enumerate(one, start=1)
        )
        for one in errors
    )
    assert caught >= 99


WORSE = {
    "CANARY_ERRORS": Arm(answers=40, errors=3, durations=(2.0,) * 40),
    "CANARY_REFUSALS": Arm(answers=40, refusals=18, durations=(2.0,) * 40),
    "CANARY_LATENCY": Arm(answers=40, durations=(4.1,) * 40),
    "CANARY_FEEDBACK": Arm(answers=40, durations=(2.0,) * 40, thumbs_up=2, thumbs_down=3),
}


@pytest.mark.parametrize("reason", WORSE)
def test_a_broken_bound_rolls_back_on_twice_the_evidence(reason: str) -> None:
    assert judge(WORSE[reason]) == Judgement(Action.ROLL_BACK, (reason,))


def test_a_broken_bound_at_the_first_look_gets_as_much_evidence_again() -> None:
    assert judge(Arm(answers=20, durations=(4.1,) * 20)).action is Action.WAIT


def test_refusals_that_the_gate_has_seen_are_allowed() -> None:
    verdict = judge_canary(WORSE["CANARY_REFUSALS"], CONTROL, 60.0, 0.2, RULES)
    assert verdict.action is Action.PROMOTE


def test_few_thumbs_are_not_compared() -> None:
    assert judge(Arm(answers=20, durations=(2.0,) * 20, thumbs_down=4)).action is Action.PROMOTE


def test_without_traffic_the_canary_ends() -> None:
    assert judge(Arm(answers=3), elapsed=RULES.max_seconds) == Judgement(
        Action.ROLL_BACK, ("INSUFFICIENT_EVIDENCE",)
    )
