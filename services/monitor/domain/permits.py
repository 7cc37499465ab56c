"""Permits to test: a burst, refilled slowly, so that the tests of any day are bounded."""

from dataclasses import dataclass, replace

from services.monitor.settings import AlarmRate


@dataclass(frozen=True)
class Permits:
    """What is left; time in seconds since the epoch."""

    left: float
    refilled_at: float

    @staticmethod
    def full(rate: AlarmRate, now: float) -> "Permits":
        return Permits(float(rate.burst_tests), now)

    def refilled(self, rate: AlarmRate, now: float) -> "Permits":
        """A clock that steps back refills nothing."""
        hours = max(0.0, now - self.refilled_at) / 3_600
        left = min(float(rate.burst_tests), self.left + hours * rate.tests_per_hour)
        return Permits(left, max(now, self.refilled_at))

    @property
    def available(self) -> bool:
        return self.left >= 1.0

    def spent(self) -> "Permits":
        return replace(self, left=self.left - 1.0)
