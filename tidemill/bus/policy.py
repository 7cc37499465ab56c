"""How often and how long a delivery is tried, and when a consumer stops by itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """attempts: tries of a handler that fails by itself. hold_seconds: how long a delivery
    waits for a part that is down (model server, vector store, database) before it is parked."""

    attempts: int = 3
    first_delay_seconds: float = 0.2
    max_delay_seconds: float = 15.0
    hold_seconds: float = 15 * 60

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the attempt-th failure, counted from 1."""
        return float(min(self.first_delay_seconds * 2 ** (attempt - 1), self.max_delay_seconds))


class FloodBrake:
    """Stops a consumer that parks one event after another: a bad deploy must not empty a topic
    into its dead letters."""

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._in_a_row = 0

    def applied(self) -> None:
        self._in_a_row = 0

    def parked(self) -> None:
        self._in_a_row += 1

    @property
    def tripped(self) -> bool:
        return self._in_a_row >= self._limit
