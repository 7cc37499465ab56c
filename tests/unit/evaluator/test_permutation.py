"""The paired test: exact on few differences, drawn on many, level kept, power there."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.domain.permutation import EXACT_UP_TO, sign_flip_p_value


def by_hand(differences: list[float]) -> float:
    patterns = list(itertools.product([1, -1], repeat=len(differences)))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in patterns]
    return sum(value >= sum(differences) - 1e-9 for value in sums) / len(patterns)


@given(st.lists(st.integers(-4, 4).map(lambda quarter: quarter / 4), min_size=1, max_size=8))
def test_few_differences_give_the_p_value_of_all_sign_patterns(differences: list[float]) -> None:
    assert sign_flip_p_value(differences, seed=1) == pytest.approx(by_hand(differences))


def test_five_wins_of_five_have_one_chance_in_thirty_two() -> None:
    assert sign_flip_p_value([1, 1, 1, 1, 1, 0, 0, 0], seed=1) == pytest.approx(1 / 32)


@pytest.mark.parametrize("differences", [[], [0.0, 0.0]])
def test_no_difference_is_no_evidence(differences: list[float]) -> None:
    assert sign_flip_p_value(differences, seed=1) == 1.0


def test_a_loss_is_never_significant() -> None:
    assert sign_flip_p_value([-0.5] * 40, seed=1) == pytest.approx(1.0)


def test_the_drawn_p_value_is_near_the_exact_one_and_repeats_with_its_seed() -> None:
    random = np.random.default_rng(5)
    few = list(random.normal(0.2, 1.0, EXACT_UP_TO))
    exact = sign_flip_p_value(few, seed=3)
    drawn = sign_flip_p_value([*few, 1e-12], seed=3)
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn == sign_flip_p_value([*few, 1e-12], seed=3)


def test_the_least_drawn_p_value_is_above_zero() -> None:
    assert sign_flip_p_value([1.0] * 60, seed=1) == pytest.approx(1 / 100_000)


def test_without_a_difference_one_test_in_twenty_or_fewer_is_significant() -> None:
    random = np.random.default_rng(11)
    trials, level = 1_000, 0.05
    hits = sum(
        sign_flip_p_value(list(random.choice([-1.0, -0.5, 0.0, 0.5, 1.0], 16)), seed=1) < level
        for _ in range(trials)
    )
    # 1,000 fair trials give more than 75 hits with a chance below 0.001.
    assert hits <= 75
