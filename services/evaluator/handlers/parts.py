"""What the use cases of the evaluator work with."""

from dataclasses import dataclass

from opentelemetry.trace import Tracer

from services.evaluator.adapters.serving import Serving
from services.evaluator.settings import CanaryRules, GateRules, ReleaseDefaults, RunRules
from tidemill.bus import Bus
from tidemill.clock import Clock
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

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.now().timestamp()
