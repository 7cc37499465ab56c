"""The verdict as an event, and the same verdict decided again from nothing but the event."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from services.evaluator.domain.gate import Decision, judge, seed_of
from services.evaluator.domain.metrics import Comparison
from services.evaluator.domain.results import Pair, SampleResult
from services.evaluator.settings import GateRules
from tidemill.api.events import v1 as events


@dataclass(frozen=True)
class Comparands:
    """What was compared with what; look counts from 1."""

    tenant_id: str
    evaluation_id: str
    candidate_release_id: str
    baseline_release_id: str
    suite_id: str
    suite_hash: str
    index_manifest_hash: str
    look: int

    @property
    def seed(self) -> int:
        return seed_of(self.suite_hash, self.baseline_release_id, self.candidate_release_id)


def verdict_event(
    comparands: Comparands, pairs: Sequence[Pair], decision: Decision
) -> events.EvaluationCompleted:
    """The event without its time, which the caller sets."""
    return events.EvaluationCompleted(
        **asdict(comparands),
        metrics=[metric_message(comparison) for comparison in decision.comparisons],
        samples=[_sample_message(pair) for pair in pairs],
        verdict=events.VERDICT_PASSED if decision.passed else events.VERDICT_REFUSED,
        reasons=decision.reasons,
    )


def decide_again(event: events.EvaluationCompleted) -> Decision:
    """Repeats the decision from the per-sample facts and the limits that the event records."""
    limits = {metric.metric: metric.limit for metric in event.metrics}
    seed = seed_of(event.suite_hash, event.baseline_release_id, event.candidate_release_id)
    pairs = [_pair_of(sample) for sample in event.samples]
    return judge(pairs, _rules_of(event, limits), limits["score"], seed)


def _rules_of(event: events.EvaluationCompleted, limits: dict[str, float]) -> GateRules:
    baselines = {metric.metric: metric.baseline for metric in event.metrics}
    cost_ratio = limits["cost"] / baselines["cost"] if baselines["cost"] else 1.0
    return GateRules(
        min_effect=limits["score_gain"],
        min_samples=int(limits["samples"]),
        min_group=1,
        regression_alpha=1.0,  # the recorded limits have room for chance already
        max_citation_drop=limits["citation"],
        max_refusal_drop=limits["refusal"],
        max_false_refusal_rise=limits["false_refusal"],
        max_failed_share=limits["failed"],
        max_latency_ratio=1.0,
        latency_floor_seconds=limits["latency_p95"],
        max_cost_ratio=max(1.0, cost_ratio),
    )


def metric_message(comparison: Comparison) -> events.MetricComparison:
    """The message of the value."""
    return events.MetricComparison(
        metric=comparison.metric,
        baseline=comparison.baseline,
        candidate=comparison.candidate,
        p_value=comparison.p_value,
        limit=comparison.limit,
        passed=comparison.passed,
    )


def _sample_message(pair: Pair) -> events.SampleScore:
    return events.SampleScore(
        sample_id=pair.sample_id,
        baseline=pair.baseline_score,
        candidate=pair.candidate_score,
        answerable=pair.answerable,
        citable=pair.citable,
        baseline_result=result_message(pair.baseline),
        candidate_result=result_message(pair.candidate),
    )


def _pair_of(message: events.SampleScore) -> Pair:
    return Pair(
        sample_id=message.sample_id,
        answerable=message.answerable,
        citable=message.citable,
        baseline=result_of(message.baseline_result),
        candidate=result_of(message.candidate_result),
    )


def result_message(result: SampleResult) -> events.SampleResult:
    """The message of the value."""
    return events.SampleResult(**asdict(result))


def result_of(message: events.SampleResult) -> SampleResult:
    """The value behind the message."""
    return SampleResult(
        **{field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    )
