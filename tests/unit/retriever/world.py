"""A retriever on real parts, SQLite and milvus-lite, fed by hand instead of by Kafka."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import select

from services.retriever.adapters.batching import SearchBatcher
from services.retriever.adapters.vector_store import VectorStore
from services.retriever.handlers.indexing import Indexing, take_embedded, take_retired
from services.retriever.handlers.searching import Passage, Searching, search
from services.retriever.handlers.upkeep import Upkeep
from tidemill import topics
from tidemill.api.common.v1 import Chunk, EmbeddingModel
from tidemill.api.events.v1 import (
    ChunksEmbedded,
    DocumentIndexed,
    DocumentRetired,
    EmbeddedChunk,
)
from tidemill.bus import AlreadyApplied, Bus, Delivery
from tidemill.bus.envelope import Record
from tidemill.bus.tables import OutboxRow
from tidemill.db import Database
from tidemill.ids import derived_id

DIMENSIONS = 8
MODEL = EmbeddingModel(name="toy", version="v1", dimensions=DIMENSIONS)


@dataclass
class ManualClock:
    """Time that moves when a test says so."""

    time: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    stepped: timedelta = timedelta()

    def now(self) -> datetime:
        return self.time + self.stepped

    def monotonic(self) -> float:
        return self.time.timestamp()

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def vector_of(text: str, dimensions: int = DIMENSIONS) -> bytes:
    """A unit vector that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=dimensions)
    return (vector / np.linalg.norm(vector)).astype("<f4").tobytes()


def embedded(
    tenant: str,
    document: str,
    version: int,
    texts: Sequence[str],
    model: EmbeddingModel = MODEL,
) -> ChunksEmbedded:
    """What the embedder would emit for a version with these passages."""
    chunks = [
        Chunk(
            chunk_id=derived_id(tenant, document, str(version), str(ordinal)),
            document_id=document,
            version=version,
            ordinal=ordinal,
            headings=["Guide", text],
            text=text,
        )
        for ordinal, text in enumerate(texts)
    ]
    return ChunksEmbedded(
        tenant_id=tenant,
        document_id=document,
        version=version,
        title=f"{document} {version}",
        source_uri=f"https://docs.example/{document}",
        embedding_model=model,
        chunks=[
            EmbeddedChunk(chunk=chunk, vector=vector_of(chunk.text, model.dimensions))
            for chunk in chunks
        ],
    )


def retired(tenant: str, document: str, version: int) -> DocumentRetired:
    return DocumentRetired(tenant_id=tenant, document_id=document, version=version)


@dataclass
class World:
    """The service's parts, and what a test does with them."""

    database: Database
    bus: Bus
    vectors: VectorStore
    clock: ManualClock
    upkeep: Upkeep
    searching: Searching
    events: int = 0

    def delivery(self, tenant: str, document: str, event_id: str | None = None) -> Delivery:
        self.events += 1
        record = Record(
            topic="t",
            partition=0,
            offset=self.events,
            key=f"{tenant}/{document}".encode(),
            value=b"",
            headers={"ce_id": event_id or f"evt-{self.events}"},
            time=self.clock.now(),
        )
        return Delivery(record, "retriever/t", tenant, document, self.bus.commits, self.clock)

    async def deliver(
        self, message: ChunksEmbedded | DocumentRetired, event_id: str | None = None
    ) -> None:
        """As the bus does it: applied, or known already."""
        delivery = self.delivery(message.tenant_id, message.document_id, event_id)
        try:
            if isinstance(message, DocumentRetired):
                await take_retired(message, delivery)
            else:
                await take_embedded(Indexing(self.bus, self.vectors), message, delivery)
        except AlreadyApplied:
            pass

    async def search(
        self, tenant: str, text: str, top_k: int = 5, model: EmbeddingModel = MODEL
    ) -> list[Passage]:
        return await search(self.searching, tenant, vector_of(text, model.dimensions), model, top_k)

    async def found(self, tenant: str, text: str, top_k: int = 50) -> set[tuple[str, int, str]]:
        """(document, version, text) of all hits."""
        passages = await self.search(tenant, text, top_k)
        return {(p.chunk.document_id, p.chunk.version, p.chunk.text) for p in passages}

    async def indexed_events(self) -> list[DocumentIndexed]:
        async with self.database.session() as session:
            rows = (await session.scalars(select(OutboxRow).order_by(OutboxRow.position))).all()
        named = [row for row in rows if row.topic == topics.DOCUMENTS_INDEXED.name]
        return [DocumentIndexed.FromString(row.value or b"") for row in named]

    @asynccontextmanager
    async def restarted(self, folder: Path) -> AsyncIterator["World"]:
        """The same rows with a vector store that was closed and opened again at `folder`."""
        await self.vectors.close()
        async with VectorStore(str(folder), 10.0) as vectors:
            yield with_store(self, vectors)


def with_store(world: World, vectors: VectorStore) -> World:
    upkeep = Upkeep(world.bus, vectors, world.clock, grace_seconds=60.0, staged_grace_seconds=900.0)
    batcher = SearchBatcher(vectors, max_waiting=256)
    searching = Searching(world.database, batcher, vectors, upkeep)
    return replace(world, vectors=vectors, upkeep=upkeep, searching=searching)
