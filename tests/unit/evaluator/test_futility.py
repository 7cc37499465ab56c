"""A suite is cut short only for a candidate that its gate would have refused anyway."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.domain.futility import is_hopeless, pairs_at_best
from services.evaluator.domain.gate import STOPPED_EARLY, TOO_FEW_SAMPLES, judge
from services.evaluator.domain.results import SampleResult, best_result, primary_score
from services.evaluator.domain.suites import Sample
from services.evaluator.settings import GateRules
from tests.unit.evaluator.pairs import FAILED, REFUSED, RIGHT, WRONG

RULES = GateRules()
SAMPLES = [
    Sample(f"q-{n}", f"Question {n}?", "" if n % 5 == 4 else "answer", ("doc",)) for n in range(24)
]
RESULTS = st.sampled_from([RIGHT, WRONG, REFUSED, FAILED, replace(RIGHT, f1=0.5, exact_match=0.0)])


def by_id(results: list[SampleResult]) -> dict[str, SampleResult]:
    return {sample.sample_id: result for sample, result in zip(SAMPLES, results, strict=False)}


@given(
    baseline=st.lists(RESULTS, min_size=24, max_size=24),
    candidate=st.lists(RESULTS, min_size=24, max_size=24),
    asked=st.integers(0, 24),
)
def test_who_is_stopped_would_have_been_refused(
    baseline: list[SampleResult], candidate: list[SampleResult], asked: int
) -> None:
    if is_hopeless(SAMPLES, by_id(baseline), by_id(candidate[:asked]), RULES):
        whole = pairs_at_best(SAMPLES, by_id(baseline), by_id(candidate))
        assert "EFFECT_TOO_SMALL" in judge(whole, RULES, 0.05, 1).reasons


@given(result=RESULTS, number=st.integers(0, 23))
def test_no_result_is_better_than_the_assumed_one(result: SampleResult, number: int) -> None:
    sample = SAMPLES[number]
    best = primary_score(sample.answerable, best_result(sample))
    assert best == 1.0 >= primary_score(sample.answerable, result)


def test_a_candidate_far_behind_is_stopped_before_the_end_and_a_better_one_is_not() -> None:
    baseline, bad = by_id([RIGHT] * 24), [WRONG] * 24
    stops = [n for n in range(25) if is_hopeless(SAMPLES, baseline, by_id(bad[:n]), RULES)]
    assert 0 < stops[0] < 12
    good = by_id([RIGHT if sample.answerable else REFUSED for sample in SAMPLES])
    assert not is_hopeless(SAMPLES, by_id(bad), good, RULES)


def test_nothing_is_stopped_before_the_baseline_is_measured() -> None:
    baseline = by_id([RIGHT] * 23)
    assert not is_hopeless(SAMPLES, baseline, by_id([WRONG] * 24), RULES)


def test_an_assumption_never_passes_however_good_the_rest_is() -> None:
    good = [RIGHT if sample.answerable else REFUSED for sample in SAMPLES]
    made = pairs_at_best(SAMPLES, by_id([WRONG] * 24), by_id(good[:23]))
    assert judge(made, RULES, 0.05, 1).reasons == (STOPPED_EARLY,)


def test_an_assumption_is_no_sample_that_was_answered() -> None:
    made = pairs_at_best(SAMPLES, by_id([WRONG] * 24), by_id([RIGHT] * 19))
    assert TOO_FEW_SAMPLES in judge(made, RULES, 0.05, 1).reasons
