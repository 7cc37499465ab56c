"""Finds the nearest passages that were in force when the search began."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.orm import Session

from services.retriever.adapters.batching import SearchBatcher
from services.retriever.adapters.hits import HitRow, Index, find_hits, find_index
from services.retriever.adapters.queries import hidden_keys, manifest_pages
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
SEEN_TENANTS = 1_000


@dataclass(frozen=True)
class Searching:
    """What the use cases work with."""

    database: Database
    batcher: SearchBatcher
    vectors: VectorStore
    upkeep: Upkeep
    # Each tenant's index as a search saw it last.
    seen: dict[str, Index] = field(default_factory=dict)

    def note(self, index: Index) -> None:
        if index.tenant_id not in self.seen and len(self.seen) == SEEN_TENANTS:
            del self.seen[next(iter(self.seen))]
        self.seen[index.tenant_id] = index


@dataclass(frozen=True)
class Passage:
    """A chunk in force and its cosine similarity to the query."""

    chunk: HitRow
    score: float


@dataclass(frozen=True)
class Seen:
    """index: as it was when the rows were read. found: how many hits there were."""

    passages: list[Passage]
    index: Index | None
    found: int


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
    seen = searching.seen.get(tenant_id)
    if seen is not None and seen.model == model and searching.upkeep.reconciled:
        passages, index = await _search_index(searching, seen, vector, wanted)
        if index == seen:
            # Nothing changed since before this search: it saw what is in force.
            return passages
    else:
        index = await searching.database.read(partial(find_index, tenant_id=tenant_id))
    if index is None or not index.collection:
        return []
    if index.model != model:
        raise Fault(Reason.EMBEDDING_MODEL_MISMATCH)
    if not searching.upkeep.reconciled:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="milvus")
    passages, now = await _search_index(searching, index, vector, wanted)
    searching.note(now or index)
    return passages


async def _search_index(
    searching: Searching, index: Index, vector: Vector, wanted: int
) -> tuple[list[Passage], Index | None]:
    """What was in force at the index's revision, and the index after the search. One call as a
    rule; a second one without the hidden versions when they crowd the first."""
    limit = wanted + SPARE
    seen = await _first_look(searching, index, vector, limit, wanted)
    if len(seen.passages) < wanted and seen.found == limit:
        hidden = await searching.database.read(
            lambda session: hidden_keys(session, index.tenant_id, index.revision)
        )
        answers = await searching.vectors.search(
            index.collection, [vector], min(limit, MAX_LIMIT), hidden
        )
        seen = await searching.database.read(partial(look, index, wanted, lambda: answers[0]))
    return seen.passages, seen.index


async def _first_look(
    searching: Searching, index: Index, vector: Vector, limit: int, wanted: int
) -> Seen:
    """From a copy in memory, one thread finds the hits and reads their rows."""
    search_copy = searching.vectors.copy_of(index.collection)
    if search_copy is not None:
        find = partial(search_copy, [vector], limit)
        return await searching.database.read(partial(look, index, wanted, lambda: find()[0]))
    found = await searching.batcher.search(index.collection, vector, limit)
    return await searching.database.read(partial(look, index, wanted, lambda: found))


def look(index: Index, wanted: int, find: Callable[[], Sequence[Found]], session: Session) -> Seen:
    """The best of what was in force at the index's revision. The hits behind those that are wanted
    are read only when some of these were not in force."""
    found = sorted(find(), key=lambda hit: (-hit.score, hit.chunk_id))
    passages = _in_force(session, index, found[:wanted])
    if len(passages) < wanted:
        passages += _in_force(session, index, found[wanted:])
    now = find_index(session, index.tenant_id)
    return Seen(passages[:wanted], now, len(found))


def _in_force(session: Session, index: Index, found: Sequence[Found]) -> list[Passage]:
    rows = find_hits(session, index.tenant_id, [hit.chunk_id for hit in found])
    return [
        Passage(rows[hit.chunk_id], hit.score)
        for hit in found
        if hit.chunk_id in rows and visible(rows[hit.chunk_id].span, index.revision)
    ]


async def describe_index(database: Database, tenant_id: str) -> IndexDescription:
    """What the tenant's index holds at this moment."""
    return await database.read(partial(_describe, tenant_id=tenant_id))


def _describe(session: Session, tenant_id: str) -> IndexDescription:
    """Hashed here, in the database's thread: a large index takes seconds."""
    index, manifest = find_index(session, tenant_id), Manifest()
    for page in manifest_pages(session, tenant_id):
        manifest.add(page)
    return IndexDescription(
        model=index.model if index is not None and index.collection else None,
        documents=manifest.documents,
        chunks=manifest.chunks,
        manifest_hash=manifest.hash(),
    )
