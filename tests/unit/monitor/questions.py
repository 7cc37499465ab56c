"""Question embeddings as a sentence model gives them: 384 dimensions, topics within a domain."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
DIMENSIONS = 384


class Domain:
    """Questions about a few topics; questions of one domain share a direction.

    Measured on MiniLM over the example handbook: mean cosine 0.18 between two questions of the
    handbook and 0.03 across domains; these constants give about the same.
    """

    def __init__(self, random: np.random.Generator, topics: int = 12) -> None:
        self._random = random
        self._common = unit(random.normal(size=DIMENSIONS))
        self._topics = [unit(random.normal(size=DIMENSIONS)) for _ in range(topics)]

    def ask(self, n: int) -> Vectors:
        """Vectors (n, 384) on topics in any order."""
        return self.about(list(self._random.integers(0, len(self._topics), n)))

    def about(self, topics: list[int]) -> Vectors:
        """One vector for each topic, in that order."""
        rows = [
            0.42 * self._common
            + 0.55 * self._topics[topic]
            + 0.72 * unit(self._random.normal(size=DIMENSIONS))
            for topic in topics
        ]
        return np.stack([unit(row) for row in rows]).astype(np.float32)


def unit(row: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = row / np.linalg.norm(row)
    return scaled
