"""Rows of documents, their versions and the submissions that callers named."""

from contextlib import nullcontext
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Integer,
    Row,
    String,
    Table,
    Text,
    bindparam,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from services.ingest.domain.versions import Standing
from tidemill.db.rivals import rival_won
from tidemill.db.rows import get_locked
from tidemill.db.types import UtcDateTime


class Base(DeclarativeBase):
    """Ingest's tables."""


class DocumentRow(Base):
    """Where a document stands. content_hash: of the newest version, empty when withdrawn. Times of
    submissions and withdrawals are the broker's."""

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
    rejected_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
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


DOCUMENTS = cast(Table, DocumentRow.__table__)
_OF = (
    DOCUMENTS.c.tenant_id == bindparam("of_tenant"),
    DOCUMENTS.c.document_id == bindparam("of_document"),
)
_CONTENT_HASH = select(DOCUMENTS.c.content_hash).where(*_OF)
_EVER = select(VersionRow.version).where(
    VersionRow.tenant_id == bindparam("of_tenant"),
    VersionRow.document_id == bindparam("of_document"),
    VersionRow.content_hash == bindparam("content_hash"),
)
_INDEXED = update(DOCUMENTS).where(*_OF, DOCUMENTS.c.seen_version < bindparam("seen"))
_PAGE = (
    select(DOCUMENTS)
    .where(
        DOCUMENTS.c.tenant_id == bindparam("of_tenant"),
        DOCUMENTS.c.document_id > bindparam("after"),
    )
    .order_by(DOCUMENTS.c.document_id)
    .limit(bindparam("most"))
)


def content_hash_of(session: Session, tenant_id: str, document_id: str) -> str | None:
    """Of the version in force, empty when withdrawn; None for a document that was never seen."""
    of = {"of_tenant": tenant_id, "of_document": document_id}
    found: str | None = session.connection().scalar(_CONTENT_HASH, of)
    return found


def was_in_force(session: Session, tenant_id: str, document_id: str, content_hash: str) -> bool:
    """Whether any version of the document, of now or before, has that content."""
    of = {"of_tenant": tenant_id, "of_document": document_id, "content_hash": content_hash}
    return session.connection().execute(_EVER, of).first() is not None


def note_indexed(
    session: Session, key: tuple[str, str], seen: int, indexed: int, now: datetime
) -> bool:
    """False when there is no such document, or a version as high was seen before."""
    of = {"of_tenant": key[0], "of_document": key[1]}
    values = {"seen_version": seen, "indexed_version": indexed, "update_time": now}
    bounds = of | {"seen": seen}
    return bool(session.connection().execute(_INDEXED, bounds | values).rowcount)


def find_document(
    session: Session, tenant_id: str, document_id: str, *, lock: bool = False
) -> DocumentRow | None:
    """lock: hold the row until the transaction ends."""
    return (get_locked if lock else Session.get)(session, DocumentRow, (tenant_id, document_id))


def document_for_update(
    session: Session, tenant_id: str, document_id: str, now: datetime
) -> DocumentRow:
    """The locked row; a new one when the document was never seen.

    A file has one writer: there the rows that a transaction makes or changes, of however many
    events, are written together at its end.
    """
    new: dict[tuple[str, str], DocumentRow] = session.info.setdefault("new_documents", {})
    row = new.get((tenant_id, document_id))
    if row is None:
        with session.no_autoflush if is_file(session) else nullcontext():
            row = find_document(session, tenant_id, document_id, lock=True)
    if row is None:
        row = new_document(tenant_id, document_id, now)
        session.add(row)
        if is_file(session):
            new[tenant_id, document_id] = row
        else:
            flush_new(session)
    return row


def is_file(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def flush_new(session: Session) -> None:
    """Another event of the document may have made its row meanwhile."""
    try:
        session.flush()
    except IntegrityError as error:
        raise rival_won() from error


def new_document(tenant_id: str, document_id: str, now: datetime) -> DocumentRow:
    return DocumentRow(
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


def list_documents(session: Session, tenant_id: str, after: str, limit: int) -> list[Row[Any]]:
    """Columns by document id, of those behind `after` only."""
    of = {"of_tenant": tenant_id, "after": after, "most": limit}
    return list(session.connection().execute(_PAGE, of))


def find_request(session: Session, tenant_id: str, event_id: str) -> RequestRow | None:
    return session.get(RequestRow, (tenant_id, event_id))
