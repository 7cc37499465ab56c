"""Wires ingest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.ingest.adapters.originals import Originals
from services.ingest.adapters.preparation import Limits
from services.ingest.adapters.reader import Allowance, Reader
from services.ingest.consumer import subscribe
from services.ingest.handlers.events import Ingest
from services.ingest.handlers.sweeping import Sweeping, sweep_originals
from services.ingest.migrations import MIGRATIONS
from services.ingest.servicer import IngestServicer
from services.ingest.settings import IngestSettings
from tidemill.api.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from tidemill.artifacts import ArtifactStore
from tidemill.runtime import Runtime

HOUR_SECONDS = 3_600.0


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Open the reader, register the doors."""
    settings = IngestSettings()
    limits = Limits(
        max_pages=settings.max_pages,
        max_expanded_bytes=settings.max_expanded_bytes,
        max_chunks=settings.max_chunks,
        passage_words=settings.passage_words,
    )
    allowance = Allowance(
        cpu_seconds=settings.reading_cpu_seconds,
        wall_seconds=settings.reading_wall_seconds,
        memory_bytes=settings.reading_memory_bytes,
    )
    await runtime.database.expect(MIGRATIONS)
    async with Reader(limits, allowance) as reader:
        originals = Originals(ArtifactStore(runtime.settings.artifacts_url))
        ingest = Ingest(runtime.database, reader, originals, settings.max_document_bytes)
        subscribe(runtime.bus, ingest, timeout=settings.reading_wall_seconds + 30)
        servicer = IngestServicer(runtime.bus, runtime.clock, settings.max_document_bytes)
        add_IngestServiceServicer_to_server(servicer, runtime.server.grpc)
        sweeping = Sweeping(runtime.database, originals, runtime.clock)
        turn = runtime.database.turn("schedule")
        runtime.tasks.every("sweep", HOUR_SECONDS, partial(sweep_originals, sweeping), turn)
        yield
