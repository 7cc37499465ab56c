"""Wires the embedder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.embedder.adapters.batching import PassageBatcher
from services.embedder.adapters.model import Embedding
from services.embedder.consumer import subscribe
from services.embedder.servicer import EmbedderServicer
from services.embedder.settings import EmbedderSettings
from tidemill.api.embedder.v1.embedder_service_pb2_grpc import (
    add_EmbedderServiceServicer_to_server,
)
from tidemill.modelserver.client import ModelServer
from tidemill.runtime import Runtime


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Open the way to the model server, register the doors."""
    settings = EmbedderSettings()
    async with ModelServer(runtime.settings.triton_address) as server:
        embedding = Embedding(server)
        passages = PassageBatcher(
            embedding,
            batch_seconds=settings.batch_seconds,
            version_seconds=settings.version_seconds,
        )
        subscribe(runtime.bus, passages, version_seconds=settings.version_seconds)
        servicer = EmbedderServicer(embedding, settings.query_seconds)
        add_EmbedderServiceServicer_to_server(servicer, runtime.server.grpc)
        yield
