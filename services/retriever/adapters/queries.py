"""What the retriever asks its rows; every query names the tenant."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Executable, collate, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.retriever.adapters.store import ChunkRow, DocumentRow, IndexRow, VersionRow
from services.retriever.domain.manifest import Row

PARAMETERS = 500
"""Values of one IN list; databases bound them."""
PAGE = 1_000
"""Rows that are taken at a time where there may be very many: a few milliseconds of work."""
BY_CODE_POINT = {"sqlite": "BINARY", "postgresql": "C"}
"""The collation that orders texts as Python does; a server's own follows its language."""


def in_force(tenant_id: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions of a version that searches see now."""
    return (
        VersionRow.tenant_id == tenant_id,
        VersionRow.from_revision.is_not(None),
        VersionRow.to_revision.is_(None),
    )


def same_version() -> ColumnElement[bool]:
    """Joins chunks to their version."""
    return (VersionRow.tenant_id == ChunkRow.tenant_id) & (
        VersionRow.version_key == ChunkRow.version_key
    )


async def find_index(session: AsyncSession, tenant_id: str) -> IndexRow | None:
    return await session.get(IndexRow, tenant_id)


async def list_indexes(session: AsyncSession) -> list[IndexRow]:
    query = select(IndexRow).where(IndexRow.collection != "").order_by(IndexRow.tenant_id)
    return list((await session.scalars(query)).all())


async def next_revision(session: AsyncSession, tenant_id: str) -> int:
    """Takes the tenant's next revision and, with it, the lock on the tenant's index."""
    query = (
        update(IndexRow)
        .where(IndexRow.tenant_id == tenant_id)
        .values(revision=IndexRow.revision + 1)
        .returning(IndexRow.revision)
        .execution_options(synchronize_session=False)
    )
    return int((await session.execute(query)).scalar_one())


async def find_document(
    session: AsyncSession, tenant_id: str, document_id: str
) -> DocumentRow | None:
    return await session.get(DocumentRow, (tenant_id, document_id))


async def version_in_force(
    session: AsyncSession, tenant_id: str, document_id: str
) -> VersionRow | None:
    query = select(VersionRow).where(*in_force(tenant_id), VersionRow.document_id == document_id)
    return (await session.execute(query)).scalar_one_or_none()


async def hidden_keys(session: AsyncSession, tenant_id: str, revision: int) -> list[int]:
    """Keys of versions that may be in the vector store and are not in force at the revision."""
    query = select(VersionRow.version_key).where(
        VersionRow.tenant_id == tenant_id,
        or_(
            VersionRow.from_revision.is_(None),
            VersionRow.from_revision > revision,
            VersionRow.to_revision <= revision,
        ),
    )
    return list((await session.scalars(query)).all())


async def chunks_of(
    session: AsyncSession, tenant_id: str, chunk_ids: Sequence[str]
) -> list[tuple[ChunkRow, VersionRow]]:
    """The chunks that are known, each with its version."""
    found: list[tuple[ChunkRow, VersionRow]] = []
    for start in range(0, len(chunk_ids), PARAMETERS):
        query = (
            select(ChunkRow, VersionRow)
            .join(VersionRow, same_version())
            .where(
                ChunkRow.tenant_id == tenant_id,
                ChunkRow.chunk_id.in_(chunk_ids[start : start + PARAMETERS]),
            )
        )
        found += [(chunk, version) for chunk, version in (await session.execute(query)).all()]
    return found


async def manifest_pages(session: AsyncSession, tenant_id: str) -> AsyncIterator[list[Row]]:
    """Everything in force in the order of a manifest, PAGE rows at a time: all of a large tenant's
    at once would keep the event loop from everybody else for as long as they take."""
    order = BY_CODE_POINT[session.get_bind().dialect.name]
    document, chunk = VersionRow.document_id, ChunkRow.chunk_id
    query = (
        select(document, VersionRow.version, chunk)
        .join(ChunkRow, same_version())
        .where(*in_force(tenant_id))
        .order_by(collate(document, order), VersionRow.version, collate(chunk, order))
    )
    async for page in _pages(session, query):
        yield [(d, v, c) for d, v, c in page]


async def _pages(session: AsyncSession, query: Executable) -> AsyncIterator[Sequence[Any]]:
    found = await session.stream(query.execution_options(yield_per=PAGE))
    async for page in found.partitions():
        yield page


async def tenants(session: AsyncSession) -> list[str]:
    """Every tenant that ever had a document, withdrawn ones included."""
    query = select(IndexRow.tenant_id).order_by(IndexRow.tenant_id)
    return list((await session.scalars(query)).all())


async def vectors_in_force(session: AsyncSession, tenant_id: str) -> list[tuple[str, bytes]]:
    """(chunk id, vector) of everything in force."""
    query = (
        select(ChunkRow.chunk_id, ChunkRow.vector)
        .join(VersionRow, same_version())
        .where(*in_force(tenant_id))
    )
    return [(chunk_id, vector) for chunk_id, vector in (await session.execute(query)).all()]


async def known_keys(session: AsyncSession, tenant_id: str) -> set[int]:
    query = select(VersionRow.version_key).where(VersionRow.tenant_id == tenant_id)
    keys: set[int] = set()
    async for page in _pages(session, query):
        keys.update(key for (key,) in page)
    return keys


async def chunk_keys(session: AsyncSession, tenant_id: str) -> dict[str, int]:
    """Chunk id to version key, of everything that must be in the vector store."""
    query = select(ChunkRow.chunk_id, ChunkRow.version_key).where(ChunkRow.tenant_id == tenant_id)
    keys: dict[str, int] = {}
    async for page in _pages(session, query):
        keys.update((chunk_id, key) for chunk_id, key in page)
    return keys


async def vectors_of(
    session: AsyncSession, tenant_id: str, chunk_ids: Sequence[str]
) -> list[tuple[str, int, bytes]]:
    """(chunk id, version key, vector); at most PARAMETERS chunks."""
    query = select(ChunkRow.chunk_id, ChunkRow.version_key, ChunkRow.vector).where(
        ChunkRow.tenant_id == tenant_id, ChunkRow.chunk_id.in_(chunk_ids)
    )
    return [(c, k, v) for c, k, v in (await session.execute(query)).all()]


async def swept_keys(
    session: AsyncSession, tenant_id: str, ended_before: datetime, staged_before: datetime
) -> list[int]:
    """Keys of versions that ended, or were overtaken while staged, before those times."""
    overtaken = (
        VersionRow.from_revision.is_(None)
        & (VersionRow.staged_time < staged_before)
        & (VersionRow.version <= DocumentRow.version)
    )
    query = (
        select(VersionRow.version_key)
        .join(
            DocumentRow,
            (DocumentRow.tenant_id == VersionRow.tenant_id)
            & (DocumentRow.document_id == VersionRow.document_id),
        )
        .where(
            VersionRow.tenant_id == tenant_id,
            or_(VersionRow.ended_time < ended_before, overtaken),
        )
        .limit(PARAMETERS)
    )
    return list((await session.scalars(query)).all())


async def delete_versions(session: AsyncSession, tenant_id: str, keys: Sequence[int]) -> None:
    for table in (ChunkRow, VersionRow):
        await session.execute(
            delete(table).where(table.tenant_id == tenant_id, table.version_key.in_(keys))
        )
