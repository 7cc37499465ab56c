"""Brings a document version into force, or takes a document out, as one step for every reader.

Order matters. The version is staged in the rows before its first vector is written, so nothing in
the vector store is unknown to the rows. It comes into force in the delivery's own transaction,
after its last vector is there. A crash in between leaves the old version in force; the event comes
again and finishes the work. Old vectors are swept later, when no search can still need them.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import partial

from services.retriever.adapters.batching import UpsertBatcher
from services.retriever.adapters.store import IndexRow
from services.retriever.adapters.vector_store import Entity, VectorStore
from services.retriever.adapters.versions import (
    Values,
    applied_version,
    bring_into_force,
    end_version_in_force,
    set_applied_version,
    stage_version,
)
from services.retriever.domain import vectors
from services.retriever.domain.naming import collection_name, version_key
from tidemill import topics
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.api.events.v1 import ChunksEmbedded, DocumentIndexed, DocumentRetired
from tidemill.bus import Bus, Delivery, UnitOfWork
from tidemill.db.rows import get_or_add
from tidemill.faults import Fault, Reason


class Indexing:
    """What the use cases work with."""

    def __init__(self, bus: Bus, vectors: VectorStore) -> None:
        self.bus = bus
        self.vectors = vectors
        self.upserts = UpsertBatcher(vectors)


async def take_embedded(indexing: Indexing, message: ChunksEmbedded, delivery: Delivery) -> None:
    """The version comes into force unless a higher one did; the earlier one stays until then."""
    entities = check(message, delivery)
    collection = await _stage(indexing.bus, message, delivery.tenant_id)
    if collection is None:
        return
    await indexing.vectors.create_collection(collection, message.embedding_model.dimensions)
    await indexing.upserts.upsert(collection, entities)
    await delivery.apply(partial(_take_into_force, message=message))


async def retake_embedded(bus: Bus, message: ChunksEmbedded, delivery: Delivery) -> None:
    """Like take_embedded for the rows alone: in a rebuild the vector store follows from them."""
    check(message, delivery)

    def work(unit: UnitOfWork) -> None:
        if stage(unit, message) is not None:
            _take_into_force(unit, message)

    await delivery.apply(work)


def _take_into_force(unit: UnitOfWork, message: ChunksEmbedded) -> None:
    revision = next_revision(index_of(unit))
    if not _take_version(unit, message.document_id, message.version, revision, retired=False):
        return
    values = _staged(message, unit.clock.now())
    chunks = _chunk_values(message, values["version_key"])
    bring_into_force(unit.session, values, revision, chunks)
    _publish_indexed(
        unit,
        message.document_id,
        message.version,
        message.embedding_model,
        chunk_count=len(chunks),
    )


def check(message: ChunksEmbedded, delivery: Delivery) -> list[Entity]:
    """The chunks as entities. Raises Fault when the event is not what it says it is."""
    if message.tenant_id != delivery.tenant_id or message.document_id != delivery.aggregate_id:
        raise Fault(Reason.TENANT_MISMATCH)
    if message.version < 1 or not message.chunks or not message.embedding_model.version:
        raise Fault(Reason.INVALID_ARGUMENT, field="version")
    if len({embedded.chunk.chunk_id for embedded in message.chunks}) != len(message.chunks):
        raise Fault(Reason.INVALID_ARGUMENT, field="chunk_id")
    key = version_key(message.tenant_id, message.document_id, message.version)
    return list(_entities(message, key))


def _entities(message: ChunksEmbedded, key: int) -> Iterable[Entity]:
    for embedded in message.chunks:
        vector = vectors.decode(embedded.vector, message.embedding_model.dimensions)
        if vector is None:
            raise Fault(Reason.INVALID_ARGUMENT, field="vector")
        yield Entity(embedded.chunk.chunk_id, key, vector)


async def _stage(bus: Bus, message: ChunksEmbedded, tenant_id: str) -> str | None:
    return await bus.write(tenant_id, partial(stage, message=message))


def stage(unit: UnitOfWork, message: ChunksEmbedded) -> str | None:
    """Name of the collection; None when this version or a higher one was applied before.

    Raises Fault(EMBEDDING_MODEL_MISMATCH).
    """
    if message.version <= (applied_version(unit.session, unit.tenant_id, message.document_id) or 0):
        return None
    index = index_of(unit)
    if not index.model_version:
        _choose_model(index, message.embedding_model)
    if index.model != message.embedding_model:
        raise Fault(Reason.EMBEDDING_MODEL_MISMATCH)
    stage_version(unit.session, _staged(message, unit.clock.now()))
    return index.collection


def index_of(unit: UnitOfWork) -> IndexRow:
    """The tenant's index, locked; an empty one for a tenant that had none."""
    return get_or_add(unit.session, IndexRow, tenant_id=unit.tenant_id)


def next_revision(index: IndexRow) -> int:
    """Every change of a tenant's index takes the next one."""
    index.revision += 1
    return index.revision


def _choose_model(index: IndexRow, model: EmbeddingModel) -> None:
    index.model_name, index.model_version = model.name, model.version
    index.dimensions = model.dimensions
    index.collection = collection_name(index.tenant_id, model.version)


def _staged(message: ChunksEmbedded, now: datetime) -> Values:
    return {
        "tenant_id": message.tenant_id,
        "version_key": version_key(message.tenant_id, message.document_id, message.version),
        "document_id": message.document_id,
        "version": message.version,
        "title": message.title,
        "source_uri": message.source_uri,
        "chunk_count": len(message.chunks),
        "staged_time": now,
    }


def _take_version(
    unit: UnitOfWork, document_id: str, version: int, revision: int, *, retired: bool
) -> bool:
    """False when this version or a higher one was applied before; the highest wins for good. The
    version in force, if there is one, ends."""
    before = applied_version(unit.session, unit.tenant_id, document_id)
    if before is not None and before >= version:
        return False
    set_applied_version(
        unit.session,
        unit.tenant_id,
        document_id,
        version,
        retired=retired,
        is_new=before is None,
    )
    if before is not None:
        end_version_in_force(unit.session, unit.tenant_id, document_id, revision, unit.clock.now())
    return True


def _chunk_values(message: ChunksEmbedded, key: int) -> list[Values]:
    return [
        {
            "tenant_id": message.tenant_id,
            "chunk_id": embedded.chunk.chunk_id,
            "version_key": key,
            "ordinal": embedded.chunk.ordinal,
            "headings": list(embedded.chunk.headings),
            "text": embedded.chunk.text,
            "vector": embedded.vector,
        }
        for embedded in message.chunks
    ]


def _publish_indexed(
    unit: UnitOfWork,
    document_id: str,
    version: int,
    model: EmbeddingModel,
    *,
    chunk_count: int = 0,
    retired: bool = False,
) -> None:
    event = DocumentIndexed(
        tenant_id=unit.tenant_id,
        document_id=document_id,
        version=version,
        chunk_count=chunk_count,
        embedding_model=model,
        retired=retired,
    )
    unit.publish(topics.DOCUMENTS_INDEXED, document_id, event)


async def take_retired(message: DocumentRetired, delivery: Delivery) -> None:
    """No version at or below this one is found any more, whenever its chunks arrive."""
    if message.tenant_id != delivery.tenant_id or message.document_id != delivery.aggregate_id:
        raise Fault(Reason.TENANT_MISMATCH)
    await delivery.apply(partial(_retire, message=message))


def _retire(unit: UnitOfWork, message: DocumentRetired) -> None:
    index = index_of(unit)
    revision = next_revision(index)
    if _take_version(unit, message.document_id, message.version, revision, retired=True):
        _publish_indexed(unit, message.document_id, message.version, index.model, retired=True)
