"""Pairs of results for tests of the gate: sixty samples, forty-eight of them answerable."""

from collections.abc import Callable

from services.evaluator.domain.results import Pair, SampleResult

RIGHT = SampleResult(
    answer_id="ans_r", exact_match=1.0, f1=1.0, rouge_l=1.0, citation_correct=True,
    duration_seconds=2.0, cost_micros=300,
)  # fmt: skip
WRONG = SampleResult(answer_id="ans_w", f1=0.1, rouge_l=0.1, duration_seconds=2.0, cost_micros=300)
REFUSED = SampleResult(answer_id="ans_n", refused=True, duration_seconds=1.0, cost_micros=200)
FAILED = SampleResult(failed=True, error_reason="DEADLINE_EXCEEDED")

Results = Callable[[int, bool], SampleResult]


def base_model(place: int, answerable: bool) -> SampleResult:
    """Right on every fourth question, never refuses."""
    return RIGHT if answerable and place % 4 == 0 else WRONG


def trained(place: int, answerable: bool) -> SampleResult:
    """Right on three of four questions, refuses what it should."""
    if not answerable:
        return REFUSED
    return WRONG if place % 4 == 3 else RIGHT


def pairs(baseline: Results, candidate: Results, n: int = 60) -> list[Pair]:
    made = []
    for place in range(n):
        answerable = place % 5 != 4
        made.append(
            Pair(
                sample_id=f"q-{place}",
                answerable=answerable,
                citable=answerable,
                baseline=baseline(place, answerable),
                candidate=candidate(place, answerable),
            )
        )
    return made
