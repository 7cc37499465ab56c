"""Wires the evaluator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.evaluator import consumer, schedule
from services.evaluator.adapters.serving import Serving
from services.evaluator.handlers.parts import Parts
from services.evaluator.migrations import MIGRATIONS
from services.evaluator.servicer import EvaluatorServicer
from services.evaluator.settings import Settings
from tidemill.api.evaluator.v1.evaluator_service_pb2_grpc import (
    add_EvaluatorServiceServicer_to_server,
)
from tidemill.clock import Stopwatch
from tidemill.runtime import Runtime
from tidemill.wake import Wake


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Rows, subscriptions, RPCs and timers; the runtime closes what it opened."""
    settings = Settings()
    await runtime.database.expect(MIGRATIONS)
    parts = parts_of(runtime, settings)
    adapters = Wake()
    consumer.subscribe(parts, adapters)
    add_EvaluatorServiceServicer_to_server(EvaluatorServicer(parts), runtime.server.grpc)
    schedule.start(parts, runtime.tasks, adapters)
    yield


def parts_of(runtime: Runtime, settings: Settings) -> Parts:
    return Parts(
        bus=runtime.bus,
        database=runtime.database,
        clock=runtime.clock,
        tracer=runtime.telemetry.tracer,
        serving=Serving(runtime.channels, runtime.identity),
        gate=settings.gate,
        canary=settings.canary,
        run=settings.run,
        release=settings.release,
        watch=Stopwatch(runtime.clock),
    )
