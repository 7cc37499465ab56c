"""Rows: the index of each tenant, its document versions and their chunks.

The rows are the authority. They hold each vector too, so the vector store can be rebuilt from them
when it lost something, and a chunk's text exists in one place only.
"""

from datetime import datetime
from typing import cast

from sqlalchemy import JSON, BigInteger, Boolean, Index, Integer, LargeBinary, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.retriever.domain.visibility import Span
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.db.types import UtcDateTime


class Base(DeclarativeBase):
    """The retriever's tables."""


class IndexRow(Base):
    """A tenant's index. revision counts its changes; the model is empty until the first version."""

    __tablename__ = "indexes"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    collection: Mapped[str] = mapped_column(String(64), default="")
    model_name: Mapped[str] = mapped_column(String(200), default="")
    model_version: Mapped[str] = mapped_column(String(200), default="")
    dimensions: Mapped[int] = mapped_column(Integer, default=0)

    @property
    def model(self) -> EmbeddingModel:
        return EmbeddingModel(
            name=self.model_name, version=self.model_version, dimensions=self.dimensions
        )


class DocumentRow(Base):
    """The highest version of a document that was applied, withdrawals included."""

    __tablename__ = "documents"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    document_id: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    retired: Mapped[bool] = mapped_column(Boolean)


class VersionRow(Base):
    """A version whose vectors are, or may be, in the vector store.

    from_revision is empty while staged; to_revision and ended_time are set when it is replaced.
    """

    __tablename__ = "versions"
    # Every event of a document asks for its version in force.
    __table_args__ = (Index("versions_by_document", "tenant_id", "document_id"),)

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version_key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    document_id: Mapped[str] = mapped_column(String(256))
    version: Mapped[int] = mapped_column(BigInteger)
    title: Mapped[str] = mapped_column(Text)
    source_uri: Mapped[str] = mapped_column(Text)
    chunk_count: Mapped[int] = mapped_column(Integer)
    staged_time: Mapped[datetime] = mapped_column(UtcDateTime)
    from_revision: Mapped[int | None] = mapped_column(BigInteger)
    to_revision: Mapped[int | None] = mapped_column(BigInteger)
    ended_time: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def span(self) -> Span:
        return Span(self.from_revision, self.to_revision)


class ChunkRow(Base):
    """A chunk of a version that is or was in force. vector: little-endian 32-bit floats."""

    __tablename__ = "chunks"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    chunk_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version_key: Mapped[int] = mapped_column(BigInteger, index=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    headings: Mapped[list[str]] = mapped_column(JSON)
    text: Mapped[str] = mapped_column(Text)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


INDEXES, DOCUMENTS, VERSIONS, CHUNKS = (
    cast(Table, row.__table__) for row in (IndexRow, DocumentRow, VersionRow, ChunkRow)
)
