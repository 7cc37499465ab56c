"""Tables of the evaluator; times are seconds since the epoch."""

from sqlalchemy import JSON, BigInteger, Float, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidemill.ids import MAX_ID

ID = String(MAX_ID)
HASH = String(64)


class Base(DeclarativeBase):
    """Everything that the evaluator owns."""


class LedgerRow(Base):
    """The epoch of a tenant's releases: who counts it up has made the change."""

    __tablename__ = "ledgers"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)


class ReleaseRow(Base):
    """A release with its newest change."""

    __tablename__ = "releases"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID, primary_key=True)
    parent_id: Mapped[str] = mapped_column(ID)
    state: Mapped[str] = mapped_column(String(20), index=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    first_epoch: Mapped[int] = mapped_column(BigInteger)
    reasons: Mapped[list[str]] = mapped_column(JSON)
    evaluation_id: Mapped[str] = mapped_column(ID, default="")
    changed_at: Mapped[float] = mapped_column(Float)
    # The Release message as it was proposed.
    content: Mapped[bytes] = mapped_column(LargeBinary)
    # How much more often than its baseline it refused on the suite.
    refusal_gap: Mapped[float] = mapped_column(Float, default=0.0)
    traceparent: Mapped[str] = mapped_column(ID, default="")


class SuiteRow(Base):
    """A held-out suite; the one with the latest time gates."""

    __tablename__ = "suites"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    suite_hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    suite_id: Mapped[str] = mapped_column(ID)
    # JSON list of samples.
    samples: Mapped[str] = mapped_column(Text)
    stored_at: Mapped[float] = mapped_column(Float)


class WaitingAdapterRow(Base):
    """A trained adapter whose turn to be a candidate has not come."""

    __tablename__ = "waiting_adapters"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    adapter: Mapped[str] = mapped_column(ID, primary_key=True)
    # The AdapterTrained message.
    content: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[float] = mapped_column(Float)
    traceparent: Mapped[str] = mapped_column(ID, default="")


class EvaluationRow(Base):
    """One candidate's evaluation: due, and once done with its event."""

    __tablename__ = "evaluations"

    evaluation_id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    candidate_id: Mapped[str] = mapped_column(ID)
    baseline_id: Mapped[str] = mapped_column(ID)
    suite_hash: Mapped[str] = mapped_column(HASH, default="")
    # True once the index changed under a run: both releases are then asked afresh, side by side.
    afresh: Mapped[bool] = mapped_column(default=False)
    runs: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float)
    done: Mapped[bool] = mapped_column(default=False, index=True)
    # The EvaluationCompleted message; empty while due, and when it ended without a verdict.
    content: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    traceparent: Mapped[str] = mapped_column(ID, default="")


class ResultRow(Base):
    """What one release did on one sample, under one suite and one state of the index."""

    __tablename__ = "results"

    measurement_id: Mapped[str] = mapped_column(ID, primary_key=True)
    sample_id: Mapped[str] = mapped_column(ID, primary_key=True)
    # The SampleResult message.
    content: Mapped[bytes] = mapped_column(LargeBinary)


class CanaryAnswerRow(Base):
    """A live answer of the canary or of the release in force while the canary runs."""

    __tablename__ = "canary_answers"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    answer_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID, index=True)
    failed: Mapped[bool]
    refused: Mapped[bool]
    duration_seconds: Mapped[float] = mapped_column(Float)


class ThumbRow(Base):
    """The latest thumb on an answer; it may come before the answer."""

    __tablename__ = "thumbs"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    answer_id: Mapped[str] = mapped_column(ID, primary_key=True)
    up: Mapped[bool]
    recorded_at: Mapped[float] = mapped_column(Float)
