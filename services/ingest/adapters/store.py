"""Rows of documents, their versions and the submissions that callers named."""

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String, Text, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.ingest.domain.versions import Standing
from tidemill.db.types import UtcDateTime


class Base(DeclarativeBase):
    """Ingest's tables."""


class DocumentRow(Base):
    """Where a document stands. content_hash: of the newest version, empty when withdrawn."""

    __tablename__ = "documents"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    document_id: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    indexed_version: Mapped[int] = mapped_column(BigInteger, default=0)
    seen_version: Mapped[int] = mapped_column(BigInteger, default=0)
    title: Mapped[str] = mapped_column(Text, default="")
    media_type: Mapped[str] = mapped_column(String(200), default="")
    content_hash: Mapped[str] = mapped_column(String(64), default="")
    chunk_count: Mapped[int] = mapped_column(Integer, default=0)
    rejection_reason: Mapped[str] = mapped_column(String(64), default="")
    event_id: Mapped[str] = mapped_column(String(256), default="")
    submitted_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    withdrawn_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def standing(self) -> Standing:
        return Standing(self.version, self.content_hash, self.submitted_time, self.withdrawn_time)

    @property
    def known(self) -> bool:
        """False while only the index spoke of it, as when these rows are built again."""
        return self.version > 0 or bool(self.rejection_reason) or self.withdrawn_time is not None


class VersionRow(Base):
    """Lineage: which event made which version, and of what."""

    __tablename__ = "document_versions"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    document_id: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    chunk_count: Mapped[int] = mapped_column(Integer)
    event_id: Mapped[str] = mapped_column(String(256))
    created_time: Mapped[datetime] = mapped_column(UtcDateTime)


class RequestRow(Base):
    """A call that named itself, so that its retry gets the first call's event, whose id is derived
    from the call's. fingerprint: of what the caller said."""

    __tablename__ = "requested_events"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(256), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))


async def find_document(
    session: AsyncSession, tenant_id: str, document_id: str, *, lock: bool = False
) -> DocumentRow | None:
    """lock: hold the row until the transaction ends."""
    query = select(DocumentRow).where(
        DocumentRow.tenant_id == tenant_id, DocumentRow.document_id == document_id
    )
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def document_for_update(
    session: AsyncSession, tenant_id: str, document_id: str, now: datetime
) -> DocumentRow:
    """The locked row; a new one when the document was never seen."""
    row = await find_document(session, tenant_id, document_id, lock=True)
    if row is None:
        row = DocumentRow(
            tenant_id=tenant_id,
            document_id=document_id,
            version=0,
            indexed_version=0,
            seen_version=0,
            title="",
            media_type="",
            content_hash="",
            chunk_count=0,
            rejection_reason="",
            event_id="",
            update_time=now,
        )
        session.add(row)
    return row


async def list_documents(
    session: AsyncSession, tenant_id: str, after: str, limit: int
) -> list[DocumentRow]:
    """Rows by document id, those behind `after` only."""
    query = (
        select(DocumentRow)
        .where(DocumentRow.tenant_id == tenant_id, DocumentRow.document_id > after)
        .order_by(DocumentRow.document_id)
        .limit(limit)
    )
    return list((await session.scalars(query)).all())


async def find_request(session: AsyncSession, tenant_id: str, event_id: str) -> RequestRow | None:
    return await session.get(RequestRow, (tenant_id, event_id))
