"""Time, passed in so that tests decide what it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time for records and retention."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        return time.time_ns() // 1_000_000
