"""One deadline for all steps of an answer."""

from dataclasses import dataclass

from tidemill.clock import Clock
from tidemill.faults import Fault, Reason


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> "Deadline":
        return cls(clock, clock.monotonic() + seconds)

    def left(self, at_most: float = float("inf")) -> float:
        """Seconds that a step may take; Fault(DEADLINE_EXCEEDED) when there are none."""
        seconds = self.at - self.clock.monotonic()
        if seconds <= 0:
            raise Fault(Reason.DEADLINE_EXCEEDED)
        return min(seconds, at_most)
