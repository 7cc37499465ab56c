"""Time as an argument, so that tests own it."""

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Protocol

MAX_REMEMBERED = 10_000
STEP_SECONDS = 1.0
"""Less is the slewing of a clock that is being corrected."""


class Clock(Protocol):
    """Wall time for records, monotonic time for durations."""

    def now(self) -> datetime:
        """Aware time in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Stopwatch:
    """How long ago a moment was that rows remember, whatever the wall clock does meanwhile.

    The wall clock counts up to the first question about a moment; from then on the monotonic
    clock does. After a restart the first question is asked anew.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[datetime, float, float]] = OrderedDict()

    def since(self, name: str, moment: datetime) -> timedelta:
        """Time since the moment. name: of what it belongs to; another moment under the same name
        begins anew."""
        steady = self._clock.monotonic()
        seen = self._seen.get(name)
        if seen is None or seen[0] != moment:
            before = max(0.0, (self._clock.now() - moment).total_seconds())
            seen = self._seen[name] = (moment, before, steady)
        self._seen.move_to_end(name)
        while len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return timedelta(seconds=seen[1] + steady - seen[2])


class StepWatch:
    """Notices that the wall clock was stepped since it was asked last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = self._measure()
        self._stepped: float | None = None

    def steady_for(self, wanted: timedelta) -> bool:
        """False for that long after a step: ages read from rows are wrong until then."""
        offset, now = self._measure(), self._clock.monotonic()
        if abs(offset - self._offset) > STEP_SECONDS:
            self._stepped = now
        self._offset = offset
        return self._stepped is None or now - self._stepped >= wanted.total_seconds()

    def _measure(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()
