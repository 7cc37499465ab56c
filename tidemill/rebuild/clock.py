"""Time while events are replayed: when each of them came to the log."""

from datetime import datetime

from tidemill.clock import SystemClock


class ReplayClock(SystemClock):
    """now() is the time of the event in hand; outside of a replay, the machine's."""

    def __init__(self) -> None:
        self.event_time: datetime | None = None

    def now(self) -> datetime:
        return self.event_time or super().now()
