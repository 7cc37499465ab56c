"""When the feedback of a tenant is worth a training run."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Trigger:
    """min_feedback: new usable lessons that start a run. quiet: how long no feedback may have
    come, so that a burst becomes one run; overdue: how long quiet is waited for at most."""

    min_feedback: int
    quiet: timedelta
    overdue: timedelta

    def fires(
        self, fresh: int, first: datetime | None, last: datetime | None, now: datetime
    ) -> bool:
        """Judge `fresh` new lessons that were received between first and last."""
        if first is None or last is None or fresh < self.min_feedback:
            return False
        return now - last >= self.quiet or now - first >= self.overdue
