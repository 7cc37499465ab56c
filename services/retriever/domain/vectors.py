"""Vectors as they travel: little-endian 32-bit floats."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


def decode(data: bytes, dimensions: int) -> Vector | None:
    """(dimensions,) or None when the bytes are not a finite, non-zero vector of that size."""
    if dimensions < 1 or len(data) != 4 * dimensions:
        return None
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() and vector.any() else None
