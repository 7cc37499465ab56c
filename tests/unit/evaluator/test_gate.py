"""The gate: what passes, what is refused and for which reason."""

from dataclasses import replace

import numpy as np
import pytest

from services.evaluator.domain.gate import alpha_of_look, judge
from services.evaluator.domain.metrics import regressions
from services.evaluator.domain.results import Pair, SampleResult
from services.evaluator.settings import GateRules
from tests.unit.evaluator.pairs import (
    FAILED,
    REFUSED,
    RIGHT,
    WRONG,
    Results,
    base_model,
    pairs,
    trained,
)

RULES = GateRules()


def reasons(made: list[Pair], rules: GateRules = RULES) -> tuple[str, ...]:
    return judge(made, rules, alpha=0.025, seed=1).reasons


def test_a_candidate_that_answers_more_questions_right_passes() -> None:
    decision = judge(pairs(base_model, trained), RULES, alpha=0.025, seed=1)
    assert decision.passed
    assert decision.reasons == ()
    score = next(entry for entry in decision.comparisons if entry.metric == "score")
    assert score.candidate > score.baseline
    assert score.p_value < 0.001


def test_the_same_release_again_has_no_significant_gain() -> None:
    assert reasons(pairs(trained, trained)) == ("NO_SIGNIFICANT_GAIN", "EFFECT_TOO_SMALL")


def test_a_worse_candidate_is_refused_with_every_reason() -> None:
    found = reasons(pairs(trained, lambda _, __: WRONG))
    assert found == (
        "NO_SIGNIFICANT_GAIN", "EFFECT_TOO_SMALL", "REGRESSION_CITATION", "REGRESSION_REFUSAL",
    )  # fmt: skip


def test_a_significant_gain_below_the_minimum_effect_is_refused() -> None:
    nearly = replace(RIGHT, f1=0.99)
    made = pairs(lambda _, __: nearly, lambda _, answerable: RIGHT if answerable else nearly)
    assert reasons(made) == ("EFFECT_TOO_SMALL",)


def with_result(made: SampleResult, *, of: Results = trained, every: int = 3) -> Results:
    return lambda place, answerable: made if place % every == 0 else of(place, answerable)


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (replace(RIGHT, citation_correct=False), "REGRESSION_CITATION"),
        (replace(RIGHT, duration_seconds=3.1), "REGRESSION_LATENCY"),
        (replace(RIGHT, cost_micros=3_000), "REGRESSION_COST"),
        (FAILED, "REGRESSION_FAILURES"),
    ],
)
def test_a_gain_does_not_buy_a_regression(worse: SampleResult, reason: str) -> None:
    cites = replace(WRONG, citation_correct=True)
    assert reason in reasons(pairs(lambda _, __: cites, with_result(worse, every=2)))


def test_refusing_answerable_questions_is_a_regression_even_when_the_score_gains() -> None:
    made = pairs(base_model, lambda place, _: REFUSED if place % 3 == 1 else RIGHT)
    assert "REGRESSION_FALSE_REFUSAL" in reasons(made)


def test_answering_unanswerable_questions_is_a_regression() -> None:
    refuses = pairs(
        lambda _, answerable: WRONG if answerable else REFUSED,
        lambda _, answerable: RIGHT if answerable else WRONG,
    )
    assert reasons(refuses) == ("REGRESSION_REFUSAL",)


def losing(lost: int, of: int = 12) -> list[Pair]:
    """A gain on answerable questions that costs so many right refusals of the others."""
    made = pairs(
        lambda _, answerable: WRONG if answerable else REFUSED,
        lambda _, answerable: RIGHT if answerable else REFUSED,
        n=5 * of,
    )
    group = [pair for pair in made if not pair.answerable]
    assert len(group) == of
    spoiled = {pair.sample_id for pair in group[:lost]}
    return [replace(p, candidate=WRONG) if p.sample_id in spoiled else p for p in made]


@pytest.mark.parametrize(("lost", "refused"), [(1, False), (2, False), (3, True), (12, True)])
def test_a_loss_that_chance_explains_is_no_regression(lost: int, refused: bool) -> None:
    """Two of twelve are 17 percent, above the bound of 10, and a coin does it one time in four."""
    assert reasons(losing(lost)) == (("REGRESSION_REFUSAL",) if refused else ())


def test_without_room_for_chance_the_bound_alone_counts() -> None:
    strict = RULES.model_copy(update={"regression_alpha": 1.0})
    assert reasons(losing(2), strict) == ("REGRESSION_REFUSAL",)
    assert reasons(losing(1), strict) == ()


def test_an_unchanged_release_is_seldom_refused_for_chance() -> None:
    """The promise is one suite in five; 400 suites break it above 100 with p < 0.01."""
    random = np.random.default_rng(11)

    def drawn() -> SampleResult:
        return REFUSED if random.random() < 0.4 else WRONG

    flagged = 0
    for _ in range(400):
        group = [pair for pair in losing(0) if not pair.answerable]
        redrawn = [replace(pair, baseline=drawn(), candidate=drawn()) for pair in group]
        found = {entry.metric: entry.passed for entry in regressions(redrawn, RULES)}
        flagged += not found["refusal"]
    assert flagged <= 100


def test_a_bound_is_not_held_over_a_handful_of_samples() -> None:
    made = pairs(
        lambda _, answerable: WRONG if answerable else REFUSED,
        lambda _, answerable: RIGHT if answerable else WRONG,
        n=24,
    )
    assert sum(not pair.answerable for pair in made) == 4
    assert reasons(made) == ()


def test_a_sample_that_the_baseline_failed_on_never_helps_the_candidate() -> None:
    made = pairs(lambda _, __: FAILED, trained)
    assert all(pair.candidate_score <= pair.baseline_score for pair in made)
    assert "NO_SIGNIFICANT_GAIN" in reasons(made)
    assert "TOO_FEW_SAMPLES" in reasons(made)


def test_too_few_samples_are_refused_however_clear_the_gain() -> None:
    made = pairs(lambda _, __: WRONG, lambda _, answerable: RIGHT if answerable else REFUSED, n=19)
    assert reasons(made) == ("TOO_FEW_SAMPLES",)


def test_an_empty_suite_is_refused() -> None:
    assert "TOO_FEW_SAMPLES" in reasons([])


def test_all_looks_together_spend_no_more_than_alpha() -> None:
    shares = [alpha_of_look(0.05, look) for look in range(1, 1_000)]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) < 0.05


def noisy(random: np.random.Generator, share: float) -> Results:
    return lambda _, answerable: (
        (RIGHT if random.random() < share else WRONG) if answerable else REFUSED
    )


def test_many_tries_without_a_gain_pass_in_few_tenants() -> None:
    """The promise is 5 percent over all looks; 60 tenants break it above 9 with p < 0.001."""
    random = np.random.default_rng(7)
    rules = RULES.model_copy(update={"max_citation_drop": 1.0, "min_effect": 0.0})
    lucky = 0
    for _ in range(60):
        made = [pairs(noisy(random, 0.6), noisy(random, 0.6), n=20) for _ in range(8)]
        lucky += any(
            judge(tried, rules, alpha_of_look(rules.alpha, look), seed=1).passed
            for look, tried in enumerate(made, start=1)
        )
    assert lucky <= 9
