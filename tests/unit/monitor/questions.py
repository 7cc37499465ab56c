"""Question embeddings as a sentence model gives them: 384 dimensions, topics within a domain."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
DIMENSIONS = 384


class Domain:
    """Questions about a few topics; questions of one domain share a direction, all a weaker one.

    Measured with MiniLM on the example handbook: mean cosine 0.15 between two questions of the
    handbook, 0.06 between one of the handbook and one about something else; these constants give
    the same.
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
        language = unit(np.ones(DIMENSIONS))
        rows = [
            0.235 * language
            + 0.27 * self._common
            + 0.55 * self._topics[topic]
            + 0.755 * unit(self._random.normal(size=DIMENSIONS))
            for topic in topics
        ]
        return np.stack([unit(row) for row in rows]).astype(np.float32)


def unit(row: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = row / np.linalg.norm(row)
    return scaled
