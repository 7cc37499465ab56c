"""Drift: false alarms within the promise, another domain found, runs of one topic forgiven."""

import numpy as np
import pytest

from services.monitor.domain.drift import find_drift, make_reference
from services.monitor.settings import DriftRules
from tests.unit.monitor.questions import DIMENSIONS, Domain, Vectors

RULES = DriftRules()


def is_drift(reference: Vectors, window: Vectors, seed: int = 1) -> bool:
    made = make_reference(reference, RULES.window, RULES.min_effect)
    return find_drift(made, window, RULES.alpha, RULES.permutations, seed).drifted


def test_questions_of_the_same_domain_raise_no_alarm_in_two_hundred_windows() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        domain = Domain(random)
        alarms += is_drift(domain.ask(RULES.reference), domain.ask(RULES.window))
    # The promise is 200 x 0.00035 = 0.07 alarms; 2 or more have a chance below 0.003.
    assert alarms <= 1


def test_the_p_value_alone_keeps_its_level_without_the_floor() -> None:
    random = np.random.default_rng(2)
    hits, trials = 0, 200
    for trial in range(trials):
        asked = Domain(random).ask(60)
        reference = make_reference(asked[:40], 20, 0.0)
        bare = type(reference)(reference.vectors, reference.width, floor=-1.0)
        hits += find_drift(bare, asked[40:], 0.05, 199, seed=trial).drifted
    # 200 fair trials give more than 20 hits with a chance below 0.001, none with 0.00004.
    assert 0 < hits <= 20


def test_another_domain_is_found_in_nearly_every_window() -> None:
    random = np.random.default_rng(3)
    found = sum(
        is_drift(Domain(random).ask(RULES.reference), Domain(random).ask(RULES.window))
        for _ in range(30)
    )
    assert found >= 29


def test_a_tenant_that_asks_area_after_area_is_no_drift() -> None:
    random = np.random.default_rng(4)
    domain = Domain(random, topics=30)
    in_runs = domain.about([5 * (n // 16 % 6) + int(random.integers(5)) for n in range(210)])
    reference = in_runs[: RULES.reference]
    starts = range(RULES.reference, 180, RULES.stride)
    assert not any(is_drift(reference, in_runs[start : start + 30]) for start in starts)
    assert is_drift(reference, Domain(random).ask(RULES.window))


def test_the_same_seed_gives_the_same_finding() -> None:
    random = np.random.default_rng(5)
    reference = make_reference(Domain(random).ask(100), 30, 0.01)
    window = Domain(random).ask(30)
    assert find_drift(reference, window, 0.01, 999, 7) == find_drift(
        reference, window, 0.01, 999, 7
    )


@pytest.mark.parametrize("scale", [0.001, 1_000.0])
def test_the_length_of_the_vectors_does_not_count(scale: float) -> None:
    random = np.random.default_rng(6)
    asked, window = Domain(random).ask(100), Domain(random).ask(30)
    plain = find_drift(make_reference(asked, 30, 0.01), window, 0.01, 999, 7)
    longer = make_reference(asked * np.float32(scale), 30, 0.01)
    scaled = find_drift(longer, window * np.float32(scale), 0.01, 999, 7)
    assert scaled.effect == pytest.approx(plain.effect, abs=1e-6)


def test_equal_or_empty_vectors_break_nothing() -> None:
    zeros = np.zeros((100, DIMENSIONS), dtype=np.float32)
    assert not is_drift(zeros, zeros[:30])
    same = np.ones((100, DIMENSIONS), dtype=np.float32)
    assert not is_drift(same, same[:30])
