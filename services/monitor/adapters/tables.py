"""Tables of the monitor; times are seconds since the epoch, money is in millionths."""

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.monitor.domain.shares import UNCOUNTED
from tidemill.ids import MAX_ID

ID = String(MAX_ID)


class Base(DeclarativeBase):
    """Everything that the monitor owns."""


class AnswerRow(Base):
    """An answer that was counted: for its feedback, and against a second count."""

    __tablename__ = "answers"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    answer_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID)
    production: Mapped[bool]
    counted_at: Mapped[float] = mapped_column(Float, index=True)


class ForgottenRow(Base):
    """Until when answers or thumbs were forgotten: an earlier one that is not there was counted."""

    __tablename__ = "forgotten"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    until: Mapped[float] = mapped_column(Float, default=0.0)


class ThumbRow(Base):
    """The latest thumb on an answer; it may come before the answer."""

    __tablename__ = "thumbs"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    answer_id: Mapped[str] = mapped_column(ID, primary_key=True)
    up: Mapped[bool]
    # When the broker took it.
    counted_at: Mapped[float] = mapped_column(Float, index=True)
    # Period of the release's watch that counts it; see domain/shares.py.
    counted_in: Mapped[int] = mapped_column(default=UNCOUNTED, server_default=str(UNCOUNTED))


class UsageRow(Base):
    """Sums of one release."""

    __tablename__ = "usage"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID, primary_key=True)
    answers: Mapped[int] = mapped_column(BigInteger, default=0)
    refusals: Mapped[int] = mapped_column(BigInteger, default=0)
    errors: Mapped[int] = mapped_column(BigInteger, default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)


class LatencyRow(Base):
    """Answers of one release whose duration fell into one bucket."""

    __tablename__ = "latencies"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID, primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    answers: Mapped[int] = mapped_column(BigInteger, default=0)


class SpendRow(Base):
    """What a tenant spent in one calendar day (UTC)."""

    __tablename__ = "spend"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)


class BudgetRow(Base):
    """A tenant's budget for each day; 0 is none."""

    __tablename__ = "budgets"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    budget_micros: Mapped[int] = mapped_column(BigInteger)


class AlertRow(Base):
    """A raised alert; place orders them."""

    __tablename__ = "alerts"
    __table_args__ = (UniqueConstraint("tenant_id", "alert_id"),)

    place: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True
    )
    tenant_id: Mapped[str] = mapped_column(ID)
    alert_id: Mapped[str] = mapped_column(ID)
    # The AlertRaised message.
    content: Mapped[bytes] = mapped_column(LargeBinary)


class WatchRow(Base):
    """The state of one share watch."""

    __tablename__ = "watches"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    release_id: Mapped[str] = mapped_column(ID, primary_key=True)
    metric: Mapped[str] = mapped_column(ID, primary_key=True)
    reference_n: Mapped[int]
    reference_k: Mapped[int]
    window_n: Mapped[int]
    window_k: Mapped[int]
    window_started_at: Mapped[float] = mapped_column(Float)
    alarmed: Mapped[bool]
    permits_left: Mapped[float] = mapped_column(Float)
    permits_at: Mapped[float] = mapped_column(Float)
    # Windows that were tested.
    windows: Mapped[int] = mapped_column(default=0, server_default="0")


class QuestionRow(Base):
    """The embedding of one question of the reference or of the latest window, no text."""

    __tablename__ = "questions"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    # Counted from 1 in the order of arrival.
    place: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    asked_at: Mapped[float] = mapped_column(Float)


class DriftRow(Base):
    """The state of a tenant's drift watch."""

    __tablename__ = "drift"

    tenant_id: Mapped[str] = mapped_column(ID, primary_key=True)
    dimensions: Mapped[int]
    seen: Mapped[int] = mapped_column(BigInteger, default=0)
    # Place of the last question of the last test.
    tested: Mapped[int] = mapped_column(BigInteger, default=0)
    alarmed: Mapped[bool] = mapped_column(default=False)
    permits_left: Mapped[float] = mapped_column(Float)
    permits_at: Mapped[float] = mapped_column(Float)
