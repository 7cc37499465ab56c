"""Judges a canary against the release in force on live answers."""

import math
from dataclasses import dataclass
from enum import Enum

from services.evaluator.domain.metrics import p95
from services.evaluator.settings import CanaryRules

CANARY_PASSED = "CANARY_PASSED"
CANARY_ERRORS = "CANARY_ERRORS"
CANARY_REFUSALS = "CANARY_REFUSALS"
CANARY_LATENCY = "CANARY_LATENCY"
CANARY_FEEDBACK = "CANARY_FEEDBACK"
INSUFFICIENT_EVIDENCE = "INSUFFICIENT_EVIDENCE"
THIN = (INSUFFICIENT_EVIDENCE,)


@dataclass(frozen=True)
class Arm:
    """Live answers of one release since the canary began; durations in seconds."""

    answers: int = 0
    errors: int = 0
    refusals: int = 0
    durations: tuple[float, ...] = ()
    thumbs_up: int = 0
    thumbs_down: int = 0

    def share(self, count: int) -> float:
        return count / self.answers if self.answers else 0.0

    @property
    def thumbs(self) -> int:
        return self.thumbs_up + self.thumbs_down

    @property
    def thumbs_down_share(self) -> float:
        return self.thumbs_down / self.thumbs if self.thumbs else 0.0


class Action(Enum):
    """What to do with the canary now."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class Judgement:
    """An action with its machine-readable reasons."""

    action: Action
    reasons: tuple[str, ...] = ()


def judge_canary(
    canary: Arm, control: Arm, elapsed: float, expected_refusal_gap: float, rules: CanaryRules
) -> Judgement:
    """Rolls back at once on errors; else waits for evidence, then promotes or rolls back.

    elapsed: seconds since the canary began.
    expected_refusal_gap: how much more often than the baseline it refused on the suite.
    A bound broken at the first look gets as much evidence again before it decides.
    """
    if is_breaking(canary, control, rules):
        return Judgement(Action.ROLL_BACK, (CANARY_ERRORS,))
    broken = broken_bounds(canary, control, expected_refusal_gap, rules)
    evidence = min(canary.answers, control.answers) / rules.min_answers
    if evidence >= 1 and elapsed >= rules.min_seconds:
        if not broken:
            return Judgement(Action.PROMOTE, (CANARY_PASSED,))
        if evidence >= 2:
            return Judgement(Action.ROLL_BACK, broken)
    if elapsed >= rules.max_seconds:
        return Judgement(Action.ROLL_BACK, broken if broken and evidence >= 1 else THIN)
    return Judgement(Action.WAIT)


def is_breaking(canary: Arm, control: Arm, rules: CanaryRules) -> bool:
    """Wald's sequential test of a broken error share against a normal one.

    It may be looked at after every answer: a canary with the normal share is rolled back with
    a chance of at most error_alpha, however often it is looked at. When the control fails as
    often, a part that both use is down, and that is not the canary's fault.
    """
    if _gap(canary, control, "errors") <= rules.max_error_gap:
        return False
    normal, broken = rules.normal_error_share, rules.broken_error_share
    right = canary.answers - canary.errors
    evidence = canary.errors * math.log(broken / normal)
    evidence += right * math.log((1 - broken) / (1 - normal))
    return evidence >= math.log(1 / rules.error_alpha)


def broken_bounds(
    canary: Arm, control: Arm, expected_refusal_gap: float, rules: CanaryRules
) -> tuple[str, ...]:
    """Reasons for which the canary is worse than the release in force, by more than allowed."""
    refusal_gap = max(0.0, expected_refusal_gap) + rules.max_refusal_gap
    slowest = max(p95(control.durations) * rules.max_latency_ratio, rules.latency_floor_seconds)
    checks = {
        CANARY_ERRORS: _gap(canary, control, "errors") > rules.max_error_gap,
        CANARY_REFUSALS: _gap(canary, control, "refusals") > refusal_gap,
        CANARY_LATENCY: p95(canary.durations) > slowest,
        CANARY_FEEDBACK: _feedback_gap(canary, control, rules) > rules.max_thumbs_down_gap,
    }
    return tuple(reason for reason, is_broken in checks.items() if is_broken)


def _gap(canary: Arm, control: Arm, count: str) -> float:
    return canary.share(getattr(canary, count)) - control.share(getattr(control, count))


def _feedback_gap(canary: Arm, control: Arm, rules: CanaryRules) -> float:
    if min(canary.thumbs, control.thumbs) < rules.min_thumbs:
        return 0.0
    return canary.thumbs_down_share - control.thumbs_down_share
