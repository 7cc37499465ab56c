"""One deadline for all steps of an answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tidemill.clock import Clock
from tidemill.faults import Fault, Reason, callers_time_out

EARLY_SECONDS = 0.05
"""A server that is asked with what is left ends its work a little before we do."""


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock; the caller's own, or the limit that we set."""

    clock: Clock
    at: float
    is_callers: bool

    @classmethod
    def after(cls, clock: Clock, callers: float, limit: float) -> "Deadline":
        """The earlier of both, in seconds from now."""
        return cls(clock, clock.monotonic() + min(callers, limit), callers <= limit)

    def left(self, at_most: float = float("inf")) -> float:
        """Seconds that a step may take; Fault(DEADLINE_EXCEEDED) when there are none."""
        seconds = self._seconds()
        if seconds <= 0:
            raise self._over()
        return min(seconds, at_most)

    @contextmanager
    def naming_whose(self) -> Iterator[None]:
        """A step that ran out of time: the caller's, or a part's that took too long."""
        try:
            yield
        except Fault as fault:
            if fault.reason is Reason.DEADLINE_EXCEEDED and self._seconds() <= EARLY_SECONDS:
                raise self._over() from fault
            raise

    def _seconds(self) -> float:
        return self.at - self.clock.monotonic()

    def _over(self) -> Fault:
        return callers_time_out() if self.is_callers else Fault(Reason.DEADLINE_EXCEEDED)
