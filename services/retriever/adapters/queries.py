"""What the retriever asks its rows; every query names the tenant."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, collate, delete, or_, select
from sqlalchemy.orm import Session

from services.retriever.adapters.store import ChunkRow, DocumentRow, IndexRow, VersionRow
from services.retriever.domain.manifest import Row

PARAMETERS = 500
"""Values of one IN list; databases bound them."""
PAGE = 1_000
"""Rows that are taken at a time where there may be very many."""
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


def list_indexes(session: Session) -> list[IndexRow]:
    query = select(IndexRow).where(IndexRow.collection != "").order_by(IndexRow.tenant_id)
    return list((session.scalars(query)).all())


def hidden_keys(session: Session, tenant_id: str, revision: int) -> list[int]:
    """Keys of versions that may be in the vector store and are not in force at the revision."""
    query = select(VersionRow.version_key).where(
        VersionRow.tenant_id == tenant_id,
        or_(
            VersionRow.from_revision.is_(None),
            VersionRow.from_revision > revision,
            VersionRow.to_revision <= revision,
        ),
    )
    return list((session.scalars(query)).all())


def manifest_pages(session: Session, tenant_id: str) -> Iterator[list[Row]]:
    """Everything in force in the order of a manifest, PAGE rows at a time: nobody holds all of a
    large tenant's at once."""
    order = BY_CODE_POINT[session.get_bind().dialect.name]
    document, chunk = VersionRow.document_id, ChunkRow.chunk_id
    query = (
        select(document, VersionRow.version, chunk)
        .join(ChunkRow, same_version())
        .where(*in_force(tenant_id))
        .order_by(collate(document, order), VersionRow.version, collate(chunk, order))
    )
    for page in session.execute(query.execution_options(yield_per=PAGE)).partitions():
        yield [(d, v, c) for d, v, c in page]


def tenants(session: Session) -> list[str]:
    """Every tenant that ever had a document, withdrawn ones included."""
    query = select(IndexRow.tenant_id).order_by(IndexRow.tenant_id)
    return list((session.scalars(query)).all())


def vectors_in_force(session: Session, tenant_id: str) -> list[tuple[str, bytes]]:
    """(chunk id, vector) of everything in force."""
    query = (
        select(ChunkRow.chunk_id, ChunkRow.vector)
        .join(VersionRow, same_version())
        .where(*in_force(tenant_id))
    )
    return [(chunk_id, vector) for chunk_id, vector in (session.execute(query)).all()]


def known_keys(session: Session, tenant_id: str) -> set[int]:
    query = select(VersionRow.version_key).where(VersionRow.tenant_id == tenant_id)
    return set((session.scalars(query)).all())


def chunk_keys(session: Session, tenant_id: str) -> dict[str, int]:
    """Chunk id to version key, of everything that must be in the vector store."""
    query = select(ChunkRow.chunk_id, ChunkRow.version_key).where(ChunkRow.tenant_id == tenant_id)
    return {chunk_id: key for chunk_id, key in (session.execute(query)).all()}


def vectors_of(
    session: Session, tenant_id: str, chunk_ids: Sequence[str]
) -> list[tuple[str, int, bytes]]:
    """(chunk id, version key, vector); at most PARAMETERS chunks."""
    query = select(ChunkRow.chunk_id, ChunkRow.version_key, ChunkRow.vector).where(
        ChunkRow.tenant_id == tenant_id, ChunkRow.chunk_id.in_(chunk_ids)
    )
    return [(c, k, v) for c, k, v in (session.execute(query)).all()]


def swept_keys(
    session: Session, tenant_id: str, ended_before: datetime, staged_before: datetime
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
    return list((session.scalars(query)).all())


def delete_versions(session: Session, tenant_id: str, keys: Sequence[int]) -> None:
    for table in (ChunkRow, VersionRow):
        session.execute(
            delete(table).where(table.tenant_id == tenant_id, table.version_key.in_(keys))
        )
