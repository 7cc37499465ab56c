"""Drift of question embeddings: a kernel two-sample test with a floor on the effect."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BLOCK = 2_000
BLOCK_STEP = 10
ROUNDING = 1e-12


@dataclass(frozen=True)
class Reference:
    """Normal questions: unit vectors (n, d), the kernel's width, and the least effect of news."""

    vectors: Vectors
    width: float
    floor: float


@dataclass(frozen=True)
class DriftFinding:
    """What one test found; p_value is 1.0 when the effect is below the floor."""

    effect: float
    floor: float
    p_value: float
    drifted: bool


def make_reference(vectors: Vectors, window: int, min_effect: float) -> Reference:
    """vectors: (n, d) in the order in which they were asked, n > window.

    Real questions come in bunches: a run of questions about one topic differs from the rest of
    the same tenant's questions. So the floor is the largest distance that a stretch of the
    reference has from the rest of the reference; drift is only what is further off than that.
    """
    unit = normalise(vectors)
    width = _median_distance(unit)
    starts = range(0, len(unit) - window + 1, BLOCK_STEP)
    own = [_stretch_distance(unit, start, window, width) for start in starts]
    return Reference(unit, width, max([min_effect, *own]))


def normalise(vectors: Vectors) -> Vectors:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, 1e-12)
    return scaled


def find_drift(
    reference: Reference, window: Vectors, alpha: float, permutations: int, seed: int
) -> DriftFinding:
    """window: (m, d). Drift when p < alpha and the effect is above the reference's floor.

    Under questions that come from one source in any order, p is valid for every size and
    dimension, because it compares the split with random splits of the same questions.
    """
    unit = normalise(window)
    kernel = _kernel(np.vstack([reference.vectors, unit]), reference.width)
    effect = float(_distances(kernel, _split(len(kernel), len(unit)))[0])
    if effect <= reference.floor:
        return DriftFinding(effect, reference.floor, p_value=1.0, drifted=False)
    p_value = _permutation_p_value(kernel, len(unit), effect, permutations, seed)
    return DriftFinding(effect, reference.floor, p_value, p_value < alpha)


def _kernel(unit: Vectors, width: float) -> Vectors:
    """Gaussian kernel of all pairs (n, n), its diagonal 0 for the unbiased estimate."""
    kernel: Vectors = np.exp(-_squared_distances(unit) / np.float32(width))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _squared_distances(unit: Vectors) -> Vectors:
    distances: Vectors = np.maximum(0.0, 2.0 - 2.0 * (unit @ unit.T))
    return distances


def _median_distance(unit: Vectors) -> float:
    upper = _squared_distances(unit)[np.triu_indices(len(unit), 1)]
    return max(float(np.median(upper)), 1e-6)


def _stretch_distance(unit: Vectors, start: int, window: int, width: float) -> float:
    stretch = unit[start : start + window]
    rest = np.vstack([unit[:start], unit[start + window :]])
    kernel = _kernel(np.vstack([rest, stretch]), width)
    return float(_distances(kernel, _split(len(kernel), window))[0])


def _split(n: int, m: int) -> Vectors:
    """Column (n, 1) that marks the last m rows."""
    marks = np.zeros((n, 1), dtype=np.float32)
    marks[n - m :] = 1.0
    return marks


def _distances(kernel: Vectors, marks: Vectors) -> NDArray[np.float64]:
    """Unbiased squared kernel distances (b,) of the marked rows from the rest; marks (n, b)."""
    m = float(marks[:, 0].sum())
    n = len(kernel) - m
    reached = kernel @ marks
    within = (marks * reached).sum(axis=0, dtype=np.float64)
    across = reached.sum(axis=0, dtype=np.float64) - within
    rest = float(kernel.sum(dtype=np.float64)) - within - 2.0 * across
    values: NDArray[np.float64] = (
        within / (m * (m - 1)) + rest / (n * (n - 1)) - 2.0 * across / (n * m)
    )
    return values


def _permutation_p_value(
    kernel: Vectors, m: int, effect: float, permutations: int, seed: int
) -> float:
    """Add-one estimate over random splits of the same rows."""
    random, reached, left = np.random.default_rng(seed), 0, permutations
    while left > 0:
        block = min(BLOCK, left)
        marks = random.permuted(np.repeat(_split(len(kernel), m), block, axis=1), axis=0)
        reached += int(np.count_nonzero(_distances(kernel, marks) >= effect - ROUNDING))
        left -= block
    return (1 + reached) / (1 + permutations)
