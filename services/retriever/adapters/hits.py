"""What a search reads of the rows: plain columns, and none that it does not show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from services.retriever.adapters.store import CHUNKS, INDEXES, VERSIONS
from services.retriever.domain.visibility import Span
from tidemill.api.common.v1 import EmbeddingModel


@dataclass(frozen=True)
class Index:
    """A tenant's index at one moment. revision grows with each change."""

    tenant_id: str
    revision: int
    collection: str
    model_name: str
    model_version: str
    dimensions: int

    @cached_property
    def model(self) -> EmbeddingModel:
        return EmbeddingModel(
            name=self.model_name, version=self.model_version, dimensions=self.dimensions
        )


@dataclass(frozen=True)
class HitRow:
    """A chunk with what is said of its version."""

    chunk_id: str
    ordinal: int
    headings: list[str]
    text: str
    document_id: str
    version: int
    title: str
    source_uri: str
    from_revision: int | None
    to_revision: int | None

    @property
    def span(self) -> Span:
        return Span(self.from_revision, self.to_revision)


_INDEX = select(
    INDEXES.c.tenant_id,
    INDEXES.c.revision,
    INDEXES.c.collection,
    INDEXES.c.model_name,
    INDEXES.c.model_version,
    INDEXES.c.dimensions,
).where(INDEXES.c.tenant_id == bindparam("tenant"))
_HITS = (
    select(
        CHUNKS.c.chunk_id,
        CHUNKS.c.ordinal,
        CHUNKS.c.headings,
        CHUNKS.c.text,
        VERSIONS.c.document_id,
        VERSIONS.c.version,
        VERSIONS.c.title,
        VERSIONS.c.source_uri,
        VERSIONS.c.from_revision,
        VERSIONS.c.to_revision,
    )
    .join(
        VERSIONS,
        (VERSIONS.c.tenant_id == CHUNKS.c.tenant_id)
        & (VERSIONS.c.version_key == CHUNKS.c.version_key),
    )
    .where(
        CHUNKS.c.tenant_id == bindparam("tenant"),
        CHUNKS.c.chunk_id.in_(bindparam("chunks", expanding=True)),
    )
)


def find_index(session: Session, tenant_id: str) -> Index | None:
    """None for a tenant that never had a document."""
    row = session.connection().execute(_INDEX, {"tenant": tenant_id}).first()
    return None if row is None else Index(*row)


def find_hits(session: Session, tenant_id: str, chunk_ids: Sequence[str]) -> dict[str, HitRow]:
    """By chunk id, those that are known. chunk_ids: as many as one search finds."""
    if not chunk_ids:
        return {}
    rows: Iterable[Any] = session.connection().execute(
        _HITS, {"tenant": tenant_id, "chunks": list(chunk_ids)}
    )
    return {row.chunk_id: HitRow(*row) for row in rows}
