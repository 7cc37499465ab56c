"""Finds the nearest passages that were in force when the search began."""

from dataclasses import dataclass

from services.retriever.adapters.batching import SearchBatcher
from services.retriever.adapters.queries import chunks_of, find_index, hidden_keys, manifest_pages
from services.retriever.adapters.store import ChunkRow, IndexRow, VersionRow
from services.retriever.adapters.vector_store import MAX_LIMIT, Found, VectorStore
from services.retriever.domain import vectors
from services.retriever.domain.manifest import Manifest
from services.retriever.domain.vectors import Vector
from services.retriever.domain.visibility import visible
from services.retriever.handlers.upkeep import Upkeep
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.db import Database
from tidemill.faults import Fault, Reason

DEFAULT_TOP_K = 5
MAX_TOP_K = 50
SPARE = 16
"""Hits asked for beyond top_k, because some may be of versions that are not in force."""


@dataclass(frozen=True)
class Searching:
    """What the use cases work with."""

    database: Database
    batcher: SearchBatcher
    vectors: VectorStore
    upkeep: Upkeep


@dataclass(frozen=True)
class Passage:
    """A chunk in force, with its version and its cosine similarity to the query."""

    chunk: ChunkRow
    version: VersionRow
    score: float


@dataclass(frozen=True)
class IndexDescription:
    """model: None before the first version."""

    model: EmbeddingModel | None
    documents: int
    chunks: int
    manifest_hash: str


async def search(
    searching: Searching, tenant_id: str, data: bytes, model: EmbeddingModel, top_k: int
) -> list[Passage]:
    """Best first; none when the tenant has no index. Raises Fault."""
    if not 0 <= top_k <= MAX_TOP_K:
        raise Fault(Reason.INVALID_ARGUMENT, field="top_k")
    wanted = top_k or DEFAULT_TOP_K
    vector = vectors.decode(data, model.dimensions)
    if vector is None:
        raise Fault(Reason.INVALID_ARGUMENT, field="vector")
    async with searching.database.session() as session:
        index = await find_index(session, tenant_id)
    if index is None or not index.collection:
        return []
    if index.model != model:
        raise Fault(Reason.EMBEDDING_MODEL_MISMATCH)
    if not searching.upkeep.reconciled:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="milvus")
    return await _search_index(searching, index, vector, wanted)


async def _search_index(
    searching: Searching, index: IndexRow, vector: Vector, wanted: int
) -> list[Passage]:
    """One call as a rule; a second one without the hidden versions when they crowd the first."""
    limit = wanted + SPARE
    found = await searching.batcher.search(index.collection, vector, limit)
    passages = await _in_force(searching.database, index, found)
    if len(passages) < wanted and len(found) == limit:
        async with searching.database.session() as session:
            hidden = await hidden_keys(session, index.tenant_id, index.revision)
        answers = await searching.vectors.search(
            index.collection, [vector], min(wanted + SPARE, MAX_LIMIT), hidden
        )
        passages = await _in_force(searching.database, index, answers[0])
    return passages[:wanted]


async def _in_force(database: Database, index: IndexRow, found: list[Found]) -> list[Passage]:
    """In the order of their scores; index is as it was when the search began."""
    scores = {hit.chunk_id: hit.score for hit in found}
    async with database.session() as session:
        rows = await chunks_of(session, index.tenant_id, list(scores))
    passages = [
        Passage(chunk, version, scores[chunk.chunk_id])
        for chunk, version in rows
        if visible(version.span, index.revision)
    ]
    return sorted(passages, key=lambda passage: (-passage.score, passage.chunk.chunk_id))


async def describe_index(database: Database, tenant_id: str) -> IndexDescription:
    """What the tenant's index holds at this moment."""
    manifest = Manifest()
    async with database.session() as session:
        index = await find_index(session, tenant_id)
        async for page in manifest_pages(session, tenant_id):
            manifest.add(page)
    return IndexDescription(
        model=index.model if index is not None and index.collection else None,
        documents=manifest.documents,
        chunks=manifest.chunks,
        manifest_hash=manifest.hash(),
    )
