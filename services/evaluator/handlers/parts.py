"""What the use cases of the evaluator work with."""

from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry.trace import Tracer

from services.evaluator.adapters.serving import Serving
from services.evaluator.settings import CanaryRules, GateRules, ReleaseDefaults, RunRules
from tidemill.bus import Bus
from tidemill.clock import Clock, Stopwatch
from tidemill.db import Database


@dataclass(frozen=True)
class Parts:
    """Opened by the app, closed by whoever opened them."""

    bus: Bus
    database: Database
    clock: Clock
    tracer: Tracer
    serving: Serving
    gate: GateRules
    canary: CanaryRules
    run: RunRules
    release: ReleaseDefaults
    watch: Stopwatch

    def elapsed(self, name: str, moment: float) -> float:
        """Seconds since a moment of the rows, which a step of the wall clock does not change."""
        return self.watch.since(name, datetime.fromtimestamp(moment, UTC)).total_seconds()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.now().timestamp()
