"""What the use cases of the monitor work with."""

from dataclasses import dataclass

from services.monitor.adapters.figures import Figures
from services.monitor.settings import DriftRules, ShareRules
from tidemill.bus import Bus
from tidemill.clock import Clock
from tidemill.db import Database


@dataclass(frozen=True)
class Parts:
    """Opened by the app, closed by whoever opened them."""

    bus: Bus
    database: Database
    clock: Clock
    figures: Figures
    drift: DriftRules
    share: ShareRules
    keep_seconds: float

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.now().timestamp()
