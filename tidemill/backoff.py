"""Waits between tries that double and are drawn at random: who failed together comes back apart."""

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom

MAX_DOUBLINGS = 30


@dataclass(frozen=True)
class Backoff:
    """Full jitter: anything between nothing and a bound that doubles from `first` to `most`
    seconds. draw: a number from 0 to 1."""

    first: float
    most: float
    draw: Callable[[], float] = SystemRandom().random

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the attempt-th failure, counted from 1."""
        return self.bound(attempt) * self.draw()

    def bound(self, attempt: int) -> float:
        """The longest that such a wait may be."""
        return float(min(self.first * 2 ** min(attempt - 1, MAX_DOUBLINGS), self.most))
