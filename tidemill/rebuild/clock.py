"""Time while events are replayed: when each of them came to the log."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from tidemill.clock import SystemClock

_EVENT_TIME: ContextVar[datetime | None] = ContextVar("event_time", default=None)


class ReplayClock(SystemClock):
    """now() is the time of the event in hand; outside of a replay, the machine's. Several events
    are in hand at once, each in a context of its own."""

    def now(self) -> datetime:
        return _EVENT_TIME.get() or super().now()


@contextmanager
def at_time(moment: datetime) -> Iterator[None]:
    """What runs in the block, database threads included, sees that time."""
    token = _EVENT_TIME.set(moment)
    try:
        yield
    finally:
        _EVENT_TIME.reset(token)
