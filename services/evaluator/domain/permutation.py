"""The paired one-sided sign-flip permutation test."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 20
DRAWS = 99_999
BLOCK = 10_000
TOLERANCE = 1e-9


def sign_flip_p_value(differences: Sequence[float], seed: int) -> float:
    """Chance of a sum at least as large, were the sign of every difference a coin's.

    Exact (all 2^m sign patterns) up to 20 differences that are not 0; above that 99,999 drawn
    patterns with the given seed and the add-one estimate, which is never below the level.
    """
    moved = np.array([value for value in differences if value != 0.0])
    if moved.size == 0:
        return 1.0
    if moved.size <= EXACT_UP_TO:
        return _exact(moved)
    return _drawn(moved, np.random.default_rng(seed))


def _exact(moved: NDArray[np.float64]) -> float:
    sums = np.zeros(1)
    for value in moved:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(sums >= moved.sum() - TOLERANCE))


def _drawn(moved: NDArray[np.float64], random: np.random.Generator) -> float:
    observed, reached, left = moved.sum() - TOLERANCE, 0, DRAWS
    while left > 0:
        block = min(BLOCK, left)
        signs = random.integers(0, 2, size=(block, moved.size), dtype=np.int8) * 2.0 - 1.0
        reached += int(np.count_nonzero(signs @ moved >= observed))
        left -= block
    return (1 + reached) / (1 + DRAWS)
