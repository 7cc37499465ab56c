"""Inference, wired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inference.consumer import subscribe
from services.inference.handlers.feedback import FeedbackTaking
from services.inference.handlers.opening import open_answering
from services.inference.handlers.releases import Preloading
from services.inference.migrations import MIGRATIONS
from services.inference.servicer import InferenceServicer
from services.inference.settings import InferenceSettings
from tidemill.api.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from tidemill.runtime import Runtime
from tidemill.wake import longest

PRELOAD_SECONDS = 1.0


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Follows releases, serves answers, and keeps the adapters of live releases loaded."""
    settings = InferenceSettings()
    database, bus, clock = runtime.database, runtime.bus, runtime.clock
    await database.expect(MIGRATIONS)
    async with open_answering(runtime, settings) as answering:
        feedback = FeedbackTaking(database, bus, clock, runtime.telemetry.tracer)
        servicer = InferenceServicer(answering, feedback, settings.default_output_tokens)
        add_InferenceServiceServicer_to_server(servicer, runtime.server.grpc)
        subscribe(bus, answering.releases, feedback, answering.shelf.news)
        preloading = Preloading(database, answering.shelf)
        runtime.conditions["adapters"] = preloading.is_done
        runtime.tasks.on(
            "preload",
            answering.shelf.news,
            preloading.turn,
            rest=PRELOAD_SECONDS,
            at_most=longest(database, PRELOAD_SECONDS),
        )
        yield
