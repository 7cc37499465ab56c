"""Rows of inference: answers, releases and the ids of feedback requests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, Index, String, Text, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from services.inference.domain.releases import Adapter, Release, Releases, State, newer
from tidemill.db import Database
from tidemill.db.types import UtcDateTime
from tidemill.ids import MAX_ID

ID = String(MAX_ID)


class Base(DeclarativeBase):
    """Tables of inference."""


class AnswerRow(Base):
    """What GetAnswer shows; the event in the log holds the rest."""

    __tablename__ = "answers"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    answer_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID)
    prompt_version: Mapped[str] = mapped_column(ID)
    adapter: Mapped[str] = mapped_column(ID)
    question: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    # One object a citation: marker, document_id, version, chunk_id, title, score.
    citations: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    refused: Mapped[bool]
    refusal_reason: Mapped[str] = mapped_column(ID)
    finish_reason: Mapped[str] = mapped_column(ID)
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    duration_seconds: Mapped[float] = mapped_column(Float)
    answered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    traceparent: Mapped[str] = mapped_column(String(60))


class ReleaseRow(Base):
    """The newest known change of a release."""

    __tablename__ = "releases"
    __table_args__ = (Index("releases_by_state", "state"),)

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID, primary_key=True)
    parent_release_id: Mapped[str] = mapped_column(ID)
    prompt_version: Mapped[str] = mapped_column(ID)
    adapter: Mapped[str] = mapped_column(ID)
    adapter_uri: Mapped[str] = mapped_column(Text)
    adapter_hash: Mapped[str] = mapped_column(ID)
    guardrail_policy: Mapped[str] = mapped_column(ID)
    routing_policy: Mapped[str] = mapped_column(ID)
    state: Mapped[str] = mapped_column(String(20))
    epoch: Mapped[int] = mapped_column(BigInteger)
    canary_share: Mapped[float] = mapped_column(Float)


class FeedbackRow(Base):
    """Feedback of a request that named itself, so that a retry of it is not a second feedback.

    feedback_id: derived from the request's id. content_hash: of the event without its time.
    """

    __tablename__ = "requested_feedback"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    feedback_id: Mapped[str] = mapped_column(ID, primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(64))


_ADD_ANSWER = insert(AnswerRow.__table__)  # type: ignore[arg-type]


def add_answer(session: Session, values: Mapping[str, Any]) -> None:
    """values: of every column. A statement of its own: the session's unit of work costs more than
    everything else that an answer writes."""
    session.connection().execute(_ADD_ANSWER, values)


async def find_answer(database: Database, tenant_id: str, answer_id: str) -> AnswerRow | None:
    return await database.read(lambda session: session.get(AnswerRow, (tenant_id, answer_id)))


async def load_releases(database: Database, tenant_id: str) -> Releases:
    """Every release of the tenant; the base release alone when there is no news of any."""
    query = select(ReleaseRow).where(ReleaseRow.tenant_id == tenant_id)
    return await database.read(
        lambda session: Releases([_release(row) for row in session.scalars(query)])
    )


def save_release(session: Session, tenant_id: str, change: Release) -> bool:
    """Keeps the change unless it is stale; tells whether it was kept."""
    row = session.get(ReleaseRow, (tenant_id, change.release_id))
    if row is not None and newer(_release(row), change) is not change:
        return False
    session.merge(_release_row(tenant_id, change))
    return True


async def adapters_in(database: Database, states: Sequence[State]) -> list[Adapter]:
    """Adapters of all tenants' releases in those states, the newest change first."""
    query = (
        select(ReleaseRow)
        .where(ReleaseRow.adapter != "", ReleaseRow.state.in_([*states]))
        .order_by(ReleaseRow.epoch.desc())
    )
    found = await database.read(
        lambda session: [_release(row).adapter for row in session.scalars(query)]
    )
    return [adapter for adapter in dict.fromkeys(found) if adapter]


def _release(row: ReleaseRow) -> Release:
    adapter = Adapter(row.adapter, row.adapter_uri, row.adapter_hash) if row.adapter else None
    return Release(
        release_id=row.release_id,
        parent_release_id=row.parent_release_id,
        prompt_version=row.prompt_version,
        adapter=adapter,
        guardrail_policy=row.guardrail_policy,
        routing_policy=row.routing_policy,
        state=State(row.state),
        epoch=row.epoch,
        canary_share=row.canary_share,
    )


def _release_row(tenant_id: str, release: Release) -> ReleaseRow:
    adapter = release.adapter or Adapter("", "", "")
    return ReleaseRow(
        tenant_id=tenant_id,
        release_id=release.release_id,
        parent_release_id=release.parent_release_id,
        prompt_version=release.prompt_version,
        adapter=adapter.name,
        adapter_uri=adapter.uri,
        adapter_hash=adapter.hash,
        guardrail_policy=release.guardrail_policy,
        routing_policy=release.routing_policy,
        state=release.state.value,
        epoch=release.epoch,
        canary_share=release.canary_share,
    )
