"""Inbox and outbox rows, beside every service's own rows."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidemill.bus.envelope import ANY_SOURCE
from tidemill.db.types import UtcDateTime


class BusBase(DeclarativeBase):
    """Tables of the bus."""


class InboxRow(BusBase):
    """An event that one consumer is done with: applied or dead-lettered.

    Ids are the producers' own: CloudEvents makes them unique within a source, and they count
    within a tenant only, so one tenant's event never hides another's. A record whose sender could
    not be verified has no tenant and no source; its place in the log is its id.
    """

    __tablename__ = "inbox"
    __table_args__ = (Index("inbox_by_time", "done_at"),)

    consumer: Mapped[str] = mapped_column(String(200), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(300), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(String(200), primary_key=True, server_default=ANY_SOURCE)
    outcome: Mapped[str] = mapped_column(String(10))
    # Which replay of a dead letter was last tried; 0 for the first delivery.
    replay: Mapped[int] = mapped_column(Integer, default=0)
    # Name of an ErrorReason when the event was rejected or dead-lettered.
    reason: Mapped[str] = mapped_column(String(64), server_default="")
    done_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OutboxRow(BusBase):
    """An event that waits to be published; deleted once the broker keeps it."""

    __tablename__ = "outbox"
    # A position is never given twice, so the relay may remember how far it came.
    __table_args__ = {"sqlite_autoincrement": True}

    # SQLite counts upwards only for INTEGER keys, whose values have 64 bits there.
    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    topic: Mapped[str] = mapped_column(String(249))
    key: Mapped[bytes] = mapped_column(LargeBinary)
    # None is Kafka's null value: the dead letter of a tombstone.
    value: Mapped[bytes | None] = mapped_column(LargeBinary)
    headers: Mapped[str] = mapped_column(Text)
