"""Verdict events: the decision can be repeated from the event alone."""

from dataclasses import replace

import pytest

from services.evaluator.domain.gate import Decision, judge
from services.evaluator.domain.results import Pair
from services.evaluator.domain.verdicts import Comparands, decide_again, verdict_event
from services.evaluator.settings import GateRules
from tests.unit.evaluator.pairs import FAILED, RIGHT, WRONG, base_model, pairs, trained
from tidemill.api.events import v1 as events

COMPARANDS = Comparands("acme", "eval_1", "rel_2", "rel_1", "handbook", "ab" * 32, "cd" * 32, 3)

CASES = {
    "a gain": pairs(base_model, trained),
    "no gain": pairs(trained, base_model),
    "failures": pairs(base_model, lambda p, a: FAILED if p % 5 == 0 else trained(p, a)),
    "slow": pairs(base_model, lambda _, __: replace(RIGHT, duration_seconds=9.0)),
    "dear": pairs(base_model, lambda _, __: replace(RIGHT, cost_micros=451)),
    "stopped": pairs(
        trained, lambda p, a: WRONG if p < 40 else replace(RIGHT, assumed=True, answer_id="")
    ),
    "few": pairs(lambda _, __: WRONG, lambda _, __: RIGHT, n=22),
}


def decide(made: list[Pair]) -> Decision:
    return judge(made, GateRules(), alpha=0.05 / 12, seed=COMPARANDS.seed)


@pytest.mark.parametrize("name", CASES)
def test_the_decision_repeats_from_the_bytes_of_the_event(name: str) -> None:
    decision = decide(CASES[name])
    sent = verdict_event(COMPARANDS, CASES[name], decision).SerializeToString()
    again = decide_again(events.EvaluationCompleted.FromString(sent))
    assert again.reasons == decision.reasons
    assert again.passed == decision.passed
    for before, after in zip(decision.comparisons, again.comparisons, strict=True):
        assert after.metric == before.metric
        assert after.passed == before.passed
        assert (after.baseline, after.candidate, after.p_value) == (
            before.baseline, before.candidate, before.p_value,
        )  # fmt: skip
        assert after.limit == pytest.approx(before.limit)


def test_a_changed_fact_changes_the_repeated_decision() -> None:
    event = verdict_event(COMPARANDS, CASES["a gain"], decide(CASES["a gain"]))
    for sample in event.samples:
        sample.candidate_result.f1 = 0.0
    assert not decide_again(event).passed


def test_the_largest_suite_fits_into_one_kafka_message_of_default_size() -> None:
    made = pairs(base_model, trained, n=2_000)
    long = [replace(pair, sample_id=f"{pair.sample_id:x<64}") for pair in made]
    with_ids = [
        replace(p, candidate=replace(p.candidate, answer_id="ans_" + "0" * 32)) for p in long
    ]
    assert verdict_event(COMPARANDS, with_ids, decide(with_ids[:60])).ByteSize() < 1_000_000
