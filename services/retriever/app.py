"""Wires the retriever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.retriever.adapters.batching import SearchBatcher
from services.retriever.adapters.vector_store import VectorStore
from services.retriever.consumer import subscribe
from services.retriever.handlers.indexing import Indexing
from services.retriever.handlers.searching import Searching
from services.retriever.handlers.upkeep import Upkeep
from services.retriever.migrations import MIGRATIONS
from services.retriever.schedule import schedule
from services.retriever.servicer import RetrieverServicer
from services.retriever.settings import RetrieverSettings
from tidemill.api.retriever.v1.retriever_service_pb2_grpc import (
    add_RetrieverServiceServicer_to_server,
)
from tidemill.runtime import Runtime


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Open the vector store, register the doors, start the upkeep."""
    settings = RetrieverSettings()
    await runtime.database.expect(MIGRATIONS)
    address = runtime.settings.milvus_address
    async with VectorStore(address, settings.milvus_seconds) as store:
        upkeep = Upkeep(
            runtime.bus,
            store,
            runtime.clock,
            grace_seconds=settings.grace_seconds,
            staged_grace_seconds=settings.staged_grace_seconds,
        )
        batcher = SearchBatcher(store, settings.max_waiting_searches)
        searching = Searching(runtime.database, batcher, store, upkeep)
        indexing = Indexing(runtime.bus, store)
        subscribe(runtime.bus, indexing, timeout=settings.index_seconds)
        schedule(runtime.tasks, upkeep, sweep_seconds=settings.sweep_every_seconds)
        add_RetrieverServiceServicer_to_server(RetrieverServicer(searching), runtime.server.grpc)
        yield
