"""Wires the monitor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.monitor import consumer, schedule
from services.monitor.adapters.figures import Figures
from services.monitor.handlers.parts import Parts
from services.monitor.migrations import MIGRATIONS
from services.monitor.servicer import MonitorServicer
from services.monitor.settings import Settings
from tidemill.api.monitor.v1.monitor_service_pb2_grpc import add_MonitorServiceServicer_to_server
from tidemill.runtime import Runtime
from tidemill.wake import Wake


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Rows, subscriptions, RPCs and timers; the runtime closes what it opened."""
    settings = Settings()
    await runtime.database.expect(MIGRATIONS)
    parts = parts_of(runtime, settings)
    answers = Wake()
    consumer.subscribe(parts, answers)
    add_MonitorServiceServicer_to_server(MonitorServicer(parts), runtime.server.grpc)
    schedule.start(parts, runtime.tasks, settings.poll_seconds, answers)
    yield


def parts_of(runtime: Runtime, settings: Settings) -> Parts:
    return Parts(
        bus=runtime.bus,
        database=runtime.database,
        clock=runtime.clock,
        figures=Figures(runtime.telemetry.meter, settings.max_tenant_labels),
        drift=settings.drift,
        share=settings.share,
        keep_seconds=timedelta(days=settings.keep_answers_days).total_seconds(),
    )
