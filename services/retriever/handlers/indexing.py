"""Brings a document version into force, or takes a document out, as one step for every reader.

Order matters. The version is staged in the rows before its first vector is written, so nothing in
the vector store is unknown to the rows. It comes into force in the delivery's own transaction,
after its last vector is there. A crash in between leaves the old version in force; the event comes
again and finishes the work. Old vectors are swept later, when no search can still need them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.retriever.adapters.queries import (
    find_document,
    find_index,
    next_revision,
    version_in_force,
)
from services.retriever.adapters.store import ChunkRow, DocumentRow, IndexRow, VersionRow
from services.retriever.adapters.vector_store import Entity, VectorStore
from services.retriever.domain import vectors
from services.retriever.domain.naming import collection_name, version_key
from tidemill import topics
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.api.events.v1 import ChunksEmbedded, DocumentIndexed, DocumentRetired
from tidemill.bus import Bus, Delivery, Unit
from tidemill.faults import Fault, Reason


@dataclass(frozen=True)
class Indexing:
    """What the use cases work with."""

    bus: Bus
    vectors: VectorStore


async def take_embedded(indexing: Indexing, message: ChunksEmbedded, delivery: Delivery) -> None:
    """The version comes into force unless a higher one did; the earlier one stays until then."""
    entities = check(message, delivery)
    if await _is_stale(indexing.bus, message, delivery.tenant_id):
        return
    collection = await _stage(indexing.bus, message, delivery.tenant_id)
    await indexing.vectors.create_collection(collection, message.embedding_model.dimensions)
    await indexing.vectors.upsert(collection, entities)
    async with delivery.apply() as unit:
        await _take_into_force(unit, message)


async def retake_embedded(bus: Bus, message: ChunksEmbedded, delivery: Delivery) -> None:
    """Like take_embedded for the rows alone: in a rebuild the vector store follows from them."""
    check(message, delivery)
    if await _is_stale(bus, message, delivery.tenant_id):
        return
    await _stage(bus, message, delivery.tenant_id)
    async with delivery.apply() as unit:
        await _take_into_force(unit, message)


async def _take_into_force(unit: Unit, message: ChunksEmbedded) -> None:
    revision = await next_revision(unit.session, unit.tenant_id)
    if await _take_version(unit, message.document_id, message.version, retired=False):
        await _end_version_in_force(unit, message.document_id, revision)
        await _bring_into_force(unit, message, revision)


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


async def _is_stale(bus: Bus, message: ChunksEmbedded, tenant_id: str) -> bool:
    async with bus.database.session() as session:
        row = await find_document(session, tenant_id, message.document_id)
    return row is not None and row.version >= message.version


async def _stage(bus: Bus, message: ChunksEmbedded, tenant_id: str) -> str:
    """Name of the collection. Raises Fault(EMBEDDING_MODEL_MISMATCH)."""
    async with bus.unit(tenant_id) as unit:
        await next_or_first_revision(unit.session, tenant_id)
        index = await _locked_index(unit.session, tenant_id)
        if not index.model_version:
            _choose_model(index, message.embedding_model)
        if index.model != message.embedding_model:
            raise Fault(Reason.EMBEDDING_MODEL_MISMATCH)
        key = version_key(tenant_id, message.document_id, message.version)
        if await unit.session.get(VersionRow, (tenant_id, key)) is None:
            unit.session.add(_staged(message, key, unit.clock.now()))
        return index.collection


async def next_or_first_revision(session: AsyncSession, tenant_id: str) -> int:
    """Like next_revision, for a tenant that may have no index yet."""
    if await find_index(session, tenant_id) is None:
        try:
            async with session.begin_nested():
                await session.execute(insert(IndexRow).values(tenant_id=tenant_id, revision=0))
        except IntegrityError:
            # Another consumer was quicker; its row is as good.
            session.expire_all()
    return await next_revision(session, tenant_id)


async def _locked_index(session: AsyncSession, tenant_id: str) -> IndexRow:
    return await session.get_one(IndexRow, tenant_id, populate_existing=True)


def _choose_model(index: IndexRow, model: EmbeddingModel) -> None:
    index.model_name, index.model_version = model.name, model.version
    index.dimensions = model.dimensions
    index.collection = collection_name(index.tenant_id, model.version)


def _staged(message: ChunksEmbedded, key: int, now: datetime) -> VersionRow:
    return VersionRow(
        tenant_id=message.tenant_id,
        version_key=key,
        document_id=message.document_id,
        version=message.version,
        title=message.title,
        source_uri=message.source_uri,
        chunk_count=len(message.chunks),
        staged_time=now,
    )


async def _take_version(unit: Unit, document_id: str, version: int, *, retired: bool) -> bool:
    """False when this version or a higher one was applied before; the highest wins for good."""
    row = await find_document(unit.session, unit.tenant_id, document_id)
    if row is None:
        row = DocumentRow(tenant_id=unit.tenant_id, document_id=document_id, version=0)
        unit.session.add(row)
    if row.version >= version:
        return False
    row.version, row.retired = version, retired
    return True


async def _end_version_in_force(unit: Unit, document_id: str, revision: int) -> None:
    ended = await version_in_force(unit.session, unit.tenant_id, document_id)
    if ended is not None:
        ended.to_revision, ended.ended_time = revision, unit.clock.now()


async def _bring_into_force(unit: Unit, message: ChunksEmbedded, revision: int) -> None:
    key = version_key(unit.tenant_id, message.document_id, message.version)
    version = await unit.session.get(VersionRow, (unit.tenant_id, key))
    if version is None:
        version = _staged(message, key, unit.clock.now())
        unit.session.add(version)
    version.from_revision = revision
    await unit.session.flush()
    await unit.session.execute(insert(ChunkRow), _chunk_values(message, key))
    _publish_indexed(unit, message.document_id, message.version, message.embedding_model, version)


def _chunk_values(message: ChunksEmbedded, key: int) -> list[dict[str, object]]:
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
    unit: Unit,
    document_id: str,
    version: int,
    model: EmbeddingModel,
    row: VersionRow | None,
) -> None:
    event = DocumentIndexed(
        tenant_id=unit.tenant_id,
        document_id=document_id,
        version=version,
        chunk_count=row.chunk_count if row is not None else 0,
        embedding_model=model,
        retired=row is None,
    )
    unit.publish(topics.DOCUMENTS_INDEXED, document_id, event)


async def take_retired(message: DocumentRetired, delivery: Delivery) -> None:
    """No version at or below this one is found any more, whenever its chunks arrive."""
    if message.tenant_id != delivery.tenant_id or message.document_id != delivery.aggregate_id:
        raise Fault(Reason.TENANT_MISMATCH)
    async with delivery.apply() as unit:
        revision = await next_or_first_revision(unit.session, unit.tenant_id)
        if await _take_version(unit, message.document_id, message.version, retired=True):
            await _end_version_in_force(unit, message.document_id, revision)
            index = await _locked_index(unit.session, unit.tenant_id)
            _publish_indexed(unit, message.document_id, message.version, index.model, None)
