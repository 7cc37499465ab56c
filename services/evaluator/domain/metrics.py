"""Figures of a whole suite under both releases, and the bounds that they are held to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.evaluator.domain.results import Pair, SampleResult
from services.evaluator.settings import GateRules

REGRESSION_CITATION = "REGRESSION_CITATION"
REGRESSION_REFUSAL = "REGRESSION_REFUSAL"
REGRESSION_FALSE_REFUSAL = "REGRESSION_FALSE_REFUSAL"
REGRESSION_FAILURES = "REGRESSION_FAILURES"
REGRESSION_LATENCY = "REGRESSION_LATENCY"
REGRESSION_COST = "REGRESSION_COST"
UNTESTED = -1.0
ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """One metric under both releases; reason is given when it did not pass."""

    metric: str
    baseline: float
    candidate: float
    limit: float
    passed: bool
    reason: str = ""
    p_value: float = UNTESTED


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def p95(values: Sequence[float]) -> float:
    """95th percentile; 0.0 of nothing."""
    return float(np.percentile(list(values), 95)) if values else 0.0


def informative(pairs: Sequence[Pair]) -> tuple[Comparison, ...]:
    """Figures that are shown and not judged."""
    answerable = [pair for pair in pairs if pair.answerable]
    refused = Comparison("refused", *_refused(pairs), limit=0.0, passed=True)
    shown: dict[str, Callable[[SampleResult], float]] = {
        "f1": lambda result: result.f1,
        "exact_match": lambda result: result.exact_match,
        "rouge_l": lambda result: result.rouge_l,
    }
    compared = (
        Comparison(
            name,
            mean([value(pair.baseline) for pair in answerable]),
            mean([value(pair.candidate) for pair in answerable]),
            limit=0.0,
            passed=True,
        )
        for name, value in shown.items()
    )
    return (*compared, refused)


def regressions(pairs: Sequence[Pair], rules: GateRules) -> tuple[Comparison, ...]:
    """Every metric that may not get worse by more than its bound."""
    return (
        _citation(pairs, rules),
        _refusal(pairs, rules),
        _false_refusal(pairs, rules),
        _failures(pairs, rules),
        _latency(pairs, rules),
        _cost(pairs, rules),
    )


def _citation(pairs: Sequence[Pair], rules: GateRules) -> Comparison:
    """Right citations among the answers given to citable questions; a failure is a wrong one."""
    citable = [pair for pair in pairs if pair.citable]
    before = [pair.baseline for pair in citable if _answered(pair.baseline)]
    after = [p.candidate for p in citable if _answered(p.candidate) or p.candidate.failed]
    baseline = mean([float(result.citation_correct) for result in before])
    candidate = mean([float(result.citation_correct) for result in after])
    limit = _bound(rules.max_citation_drop, min(len(before), len(after)), rules)
    held = baseline - candidate <= limit + ROUNDING
    return Comparison("citation", baseline, candidate, limit, held, REGRESSION_CITATION)


def _bound(limit: float, group: int, rules: GateRules) -> float:
    """The limit, or 1.0, which no share can break, over a group too small to judge."""
    return limit if group >= rules.min_group else 1.0


def _with_chance(limit: float, moves: Sequence[int], rules: GateRules) -> float:
    """The limit, or the share that chance moves so few samples by, whichever is more.

    moves: +1 for a sample that got worse, -1 for one that got better, 0 for the others. Were a
    changed sample as likely to get worse as better, a net loss above this share would come up in
    fewer than regression_alpha of the suites (exact sign test).
    """
    changed = sum(map(abs, moves))
    net = changed
    while net > 0 and chance_of(changed, net) < rules.regression_alpha:
        net -= 2
    return max(limit, net / len(moves)) if moves else limit


def chance_of(changed: int, net: int) -> float:
    """Chance that fair coins for the changed samples lose at least net more than they win."""
    worse = range((changed + net) // 2, changed + 1)
    patterns = sum(math.comb(changed, count) for count in worse)
    return patterns * 0.5**changed


def _answered(result: SampleResult) -> bool:
    return not result.failed and not result.refused


def _refusal(pairs: Sequence[Pair], rules: GateRules) -> Comparison:
    """Refusals of the questions that the documents do not answer."""
    group = [pair for pair in pairs if not pair.answerable]
    baseline, candidate = _refused(group)
    lost = [pair.baseline.refused - pair.candidate.refused for pair in group]
    limit = _bound(_with_chance(rules.max_refusal_drop, lost, rules), len(group), rules)
    held = baseline - candidate <= limit + ROUNDING
    return Comparison("refusal", baseline, candidate, limit, held, REGRESSION_REFUSAL)


def _false_refusal(pairs: Sequence[Pair], rules: GateRules) -> Comparison:
    """Refusals of the questions that the documents do answer."""
    group = [pair for pair in pairs if pair.answerable]
    baseline, candidate = _refused(group)
    gained = [pair.candidate.refused - pair.baseline.refused for pair in group]
    limit = _bound(_with_chance(rules.max_false_refusal_rise, gained, rules), len(group), rules)
    held = candidate - baseline <= limit + ROUNDING
    return Comparison("false_refusal", baseline, candidate, limit, held, REGRESSION_FALSE_REFUSAL)


def _refused(group: Sequence[Pair]) -> tuple[float, float]:
    return (
        mean([float(pair.baseline.refused) for pair in group]),
        mean([float(pair.candidate.refused) for pair in group]),
    )


def _failures(pairs: Sequence[Pair], rules: GateRules) -> Comparison:
    """Samples without an answer; a baseline that fails is no baseline either."""
    baseline = mean([float(pair.baseline.failed) for pair in pairs])
    candidate = mean([float(pair.candidate.failed) for pair in pairs])
    held = max(baseline, candidate) <= rules.max_failed_share + ROUNDING
    return Comparison(
        "failed", baseline, candidate, rules.max_failed_share, held, REGRESSION_FAILURES
    )


def _latency(pairs: Sequence[Pair], rules: GateRules) -> Comparison:
    """95th percentile of the seconds an answer took; the limit is in seconds."""
    baseline = p95([p.baseline.duration_seconds for p in pairs if not p.baseline.failed])
    candidate = p95([p.candidate.duration_seconds for p in pairs if not p.candidate.failed])
    limit = max(baseline * rules.max_latency_ratio, rules.latency_floor_seconds)
    return Comparison(
        "latency_p95", baseline, candidate, limit, candidate <= limit, REGRESSION_LATENCY
    )


def _cost(pairs: Sequence[Pair], rules: GateRules) -> Comparison:
    """Mean cost in millionths of the questions that were answered; 0 is no baseline."""
    baseline = mean([p.baseline.cost_micros for p in pairs if _answered(p.baseline)])
    candidate = mean([p.candidate.cost_micros for p in pairs if _answered(p.candidate)])
    limit = baseline * rules.max_cost_ratio
    held = candidate <= limit * (1 + ROUNDING) or baseline == 0
    return Comparison("cost", baseline, candidate, limit, held, REGRESSION_COST)
