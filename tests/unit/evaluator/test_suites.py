"""Suites: their rules and a hash that names their content."""

import random

import pytest

from services.evaluator.domain.suites import Sample, SuiteInvalid, check_suite, suite_hash

SAMPLES = [Sample(f"q-{n}", f"Question {n}?", f"answer {n}", ("doc/a", "doc/b")) for n in range(20)]


def test_order_does_not_change_the_hash_and_content_does() -> None:
    shuffled = random.Random(1).sample(SAMPLES, len(SAMPLES))
    turned = [Sample(s.sample_id, s.question, s.answer, ("doc/b", "doc/a")) for s in SAMPLES]
    assert suite_hash(shuffled) == suite_hash(SAMPLES) == suite_hash(turned)
    changed = [*SAMPLES[:-1], Sample("q-19", "Question 19?", "another answer")]
    assert suite_hash(changed) != suite_hash(SAMPLES)


def test_a_suite_within_the_rules_is_accepted() -> None:
    check_suite("handbook", SAMPLES)


@pytest.mark.parametrize(
    ("suite_id", "samples", "field"),
    [
        ("", SAMPLES, "suite_id"),
        ("s", SAMPLES[:19], "samples"),
        ("s", [Sample(f"q-{n}", "Why?", "") for n in range(2_001)], "samples"),
        ("s", [*SAMPLES[:-1], SAMPLES[0]], "samples.sample_id"),
        ("s", [*SAMPLES[:-1], Sample("", "Why?", "so")], "samples.sample_id"),
        ("s", [*SAMPLES[:-1], Sample("q", "  ", "so")], "samples.question"),
        ("s", [*SAMPLES[:-1], Sample("q", "Why?", "x" * 2_001)], "samples.answer"),
    ],
)
def test_a_broken_rule_names_its_field(suite_id: str, samples: list[Sample], field: str) -> None:
    with pytest.raises(SuiteInvalid) as caught:
        check_suite(suite_id, samples)
    assert caught.value.field == field
