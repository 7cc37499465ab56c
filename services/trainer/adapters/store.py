"""Rows of the trainer: answers and feedback as they came, runs, and the lineage of adapters."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Boolean, Float, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidemill.db.types import UtcDateTime
from tidemill.ids import MAX_ID


class Base(DeclarativeBase):
    """Tables of the trainer."""


class FeedbackState(StrEnum):
    """Where feedback stands; what a run used keeps its state and gets the run's id."""

    WAITING = "waiting"
    USABLE = "usable"
    SKIPPED = "skipped"


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AnswerRow(Base):
    """An answer that feedback may be about. passages: JSON list of [marker, chunk, document]."""

    __tablename__ = "answers"

    tenant_id: Mapped[str] = mapped_column(String(MAX_ID), primary_key=True)
    answer_id: Mapped[str] = mapped_column(String(MAX_ID), primary_key=True)
    user_hash: Mapped[str] = mapped_column(String(MAX_ID))
    prompt: Mapped[str] = mapped_column(Text)
    completion: Mapped[str] = mapped_column(Text)
    passages: Mapped[str] = mapped_column(Text)
    refused: Mapped[bool] = mapped_column(Boolean)
    evaluation: Mapped[bool] = mapped_column(Boolean)


class FeedbackRow(Base):
    """One piece of feedback. reason: why it is skipped. run_id: the first run that used it."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index("feedback_by_answer", "tenant_id", "answer_id"),
        Index("feedback_by_other", "tenant_id", "other"),
        Index("feedback_by_state", "tenant_id", "state", "recorded_time"),
        # What no run has taken is asked for every second, over all tenants.
        Index("feedback_by_run", "state", "run_id", "tenant_id"),
    )

    tenant_id: Mapped[str] = mapped_column(String(MAX_ID), primary_key=True)
    feedback_id: Mapped[str] = mapped_column(String(MAX_ID), primary_key=True)
    answer_id: Mapped[str] = mapped_column(String(MAX_ID))
    kind: Mapped[str] = mapped_column(String(40))
    text: Mapped[str] = mapped_column(Text)
    unanswerable: Mapped[bool] = mapped_column(Boolean)
    document_ids: Mapped[str] = mapped_column(Text)
    other: Mapped[str] = mapped_column(String(MAX_ID))
    recorded_time: Mapped[datetime] = mapped_column(UtcDateTime)
    received_time: Mapped[datetime] = mapped_column(UtcDateTime)
    traceparent: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(String(40), default="")
    run_id: Mapped[str] = mapped_column(String(80), default="")


class RunRow(Base):
    """A training run; number counts the runs of a tenant and is never used twice."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("tenant_id", "number"), UniqueConstraint("adapter"))

    run_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(MAX_ID))
    number: Mapped[int] = mapped_column(Integer)
    adapter: Mapped[str] = mapped_column(String(MAX_ID))
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(String(40), default="")
    dataset_id: Mapped[str] = mapped_column(String(80))
    dataset_hash: Mapped[str] = mapped_column(String(64))
    supervised_examples: Mapped[int] = mapped_column(Integer)
    preference_pairs: Mapped[int] = mapped_column(Integer)
    base_version: Mapped[str] = mapped_column(String(80))
    steps_done: Mapped[int] = mapped_column(Integer, default=0)
    steps_planned: Mapped[int] = mapped_column(Integer, default=0)
    loss: Mapped[float] = mapped_column(Float, default=0.0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    retry_time: Mapped[datetime] = mapped_column(UtcDateTime)
    traceparent: Mapped[str] = mapped_column(String(80))
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class LineageRow(Base):
    """A lesson that an adapter was trained on."""

    __tablename__ = "lineage"
    __table_args__ = (Index("lineage_by_feedback", "tenant_id", "feedback_id"),)

    run_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    feedback_id: Mapped[str] = mapped_column(String(MAX_ID), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(MAX_ID))
    answer_id: Mapped[str] = mapped_column(String(MAX_ID))


def lineage_rows(tenant_id: str, run_id: str, pairs: Sequence[tuple[str, str]]) -> list[LineageRow]:
    """Rows of (feedback id, answer id) pairs."""
    return [
        LineageRow(run_id=run_id, tenant_id=tenant_id, feedback_id=feedback, answer_id=answer)
        for feedback, answer in pairs
    ]
