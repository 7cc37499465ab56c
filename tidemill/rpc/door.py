"""How many calls a server works on at a time, and when those it refused may come back."""

from tidemill.clock import Clock
from tidemill.faults import Fault, Reason

MAX_INSIDE = 128
"""More would all end late instead of a few at once."""
RETRY_AFTER_MS = 500
MAX_RETRY_AFTER_MS = 10_000
WINDOW_SECONDS = 1.0


class Door:
    """Counts who is inside. Refusals cost time as well, so the more there are the later the
    refused are asked to come back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._inside = 0
        self._refused = 0
        self._before = 0
        self._window = clock.monotonic()

    def enter(self) -> bool:
        """False when nobody else may; leave() only after True."""
        if self._inside >= MAX_INSIDE:
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        self._inside -= 1

    def refusal(self) -> Fault:
        """OVERLOADED with a hint that grows with the refusals of this second and the last."""
        elapsed = self._clock.monotonic() - self._window
        if elapsed > WINDOW_SECONDS:
            self._before = self._refused if elapsed < 2 * WINDOW_SECONDS else 0
            self._refused, self._window = 0, self._window + elapsed
        self._refused += 1
        crowd = max(self._refused, self._before) / MAX_INSIDE
        hint = min(RETRY_AFTER_MS * (1 + crowd), MAX_RETRY_AFTER_MS)
        return Fault(Reason.OVERLOADED, retry_after_ms=str(round(hint)))
