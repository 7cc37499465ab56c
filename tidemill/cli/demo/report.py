"""What the demo shows at its end, as a table and as one JSON document."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.api.evaluator.v1 import ReleaseRecord
from tidemill.api.events.v1 import (
    AlertRaised,
    EvaluationCompleted,
    MetricComparison,
    SampleResult,
)
from tidemill.cli.demo.alerts import kind_name
from tidemill.cli.demo.stages import Stages
from tidemill.cli.demo.waiting import state_name
from tidemill.cli.output import Output


@dataclass
class Report:
    """Figures as the demo collects them."""

    seed: int
    documents: int = 0
    chunks: int = 0
    evaluation: EvaluationCompleted = field(default_factory=EvaluationCompleted)
    refused_before: list[ReleaseRecord] = field(default_factory=list)
    promoted: ReleaseRecord | None = None
    refused: ReleaseRecord | None = None
    alerts: list[AlertRaised] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def score(self) -> MetricComparison:
        return next(m for m in self.evaluation.metrics if m.metric == "score")

    @property
    def before(self) -> list[SampleResult]:
        return [sample.baseline_result for sample in self.evaluation.samples]

    @property
    def after(self) -> list[SampleResult]:
        return [sample.candidate_result for sample in self.evaluation.samples]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def summary(results: Sequence[SampleResult]) -> dict[str, float]:
    """Latency and cost of the held-out questions under one release."""
    seconds = [result.duration_seconds for result in results]
    return {
        "latency_p50_seconds": round(statistics.median(seconds), 3),
        "latency_p95_seconds": round(percentile(seconds, 0.95), 3),
        "cost_micros": sum(result.cost_micros for result in results),
    }


def document(report: Report, stages: Stages) -> dict[str, Any]:
    """The JSON form."""
    promoted, refused = report.promoted, report.refused
    return {
        "seed": report.seed,
        "stages": stages.documents(),
        "documents": report.documents,
        "chunks": report.chunks,
        "held_out": {
            "n": len(report.after),
            "before": round(report.score.baseline, 4),
            "after": round(report.score.candidate, 4),
            "p_value": report.score.p_value,
            "metrics": [
                {
                    "metric": m.metric,
                    "before": round(m.baseline, 4),
                    "after": round(m.candidate, 4),
                }
                for m in report.evaluation.metrics
            ],
        },
        "latency": {"before": summary(report.before), "after": summary(report.after)},
        "release": {
            "before": promoted.release.parent_release_id if promoted else "",
            "after": promoted.release.release_id if promoted else "",
        },
        "refused_before": [
            {"release_id": record.release.release_id, "reasons": list(record.reasons)}
            for record in report.refused_before
        ],
        "bad_candidate": {
            "verdict": state_name(refused) if refused else "",
            "reasons": list(refused.reasons) if refused else [],
        },
        "alerts": [{"kind": kind_name(a), "reason": a.reason} for a in report.alerts],
        "memory_mib": report.memory,
    }


def show(report: Report, stages: Stages, output: Output) -> None:
    """The tables."""
    before, after = summary(report.before), summary(report.after)
    rows: list[tuple[str, object, object]] = [
        (m.metric, f"{m.baseline:.3f}", f"{m.candidate:.3f}") for m in report.evaluation.metrics
    ]
    rows += [(name, before[name], after[name]) for name in before]
    output.line("")
    output.table(("held-out", "before", "after"), rows)
    n, p = len(report.after), report.score.p_value
    output.line(f"\nscore: n = {n}, one-sided paired permutation test p = {p:.2g}")
    for record in report.refused_before:
        output.line(f"refused before: {record.release.release_id} ({', '.join(record.reasons)})")
    if report.promoted and report.refused:
        output.line(
            f"release {report.promoted.release.parent_release_id} -> "
            f"{report.promoted.release.release_id} ({report.promoted.release.adapter})"
        )
        reasons = ", ".join(report.refused.reasons)
        output.line(f"scrambled candidate: {state_name(report.refused)} ({reasons})")
    for alert in report.alerts:
        measured = f"{alert.measured:.4g} against {alert.limit:.4g} {alert.unit}"
        output.line(f"alert {kind_name(alert)}: {alert.reason} ({measured})")
    output.line("")
    output.table(("stage", "seconds"), [(n, f"{s:.1f}") for n, s in stages.seconds])
    output.line(f"total {stages.total:.0f} s")
    if report.memory:
        output.line("")
        output.table(("process", "memory MiB"), sorted(report.memory.items()))
