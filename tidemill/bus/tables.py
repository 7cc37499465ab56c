"""Inbox and outbox rows, beside every service's own rows."""

from datetime import datetime

from sqlalchemy import BigInteger, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidemill.db.types import UtcDateTime


class BusBase(DeclarativeBase):
    """Tables of the bus."""


class InboxRow(BusBase):
    """An event that one consumer is done with: applied or dead.

    Ids are the producers' own, so they count within a tenant only: one tenant's event never hides
    another's. A record whose sender could not be verified has no tenant; its place is its id.
    """

    __tablename__ = "inbox"

    consumer: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(300), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(10))
    # Which replay of a dead letter was last tried; 0 for the first delivery.
    replay: Mapped[int] = mapped_column(Integer, default=0)
    done_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OutboxRow(BusBase):
    """An event that waits to be published; deleted once the broker has it."""

    __tablename__ = "outbox"

    # SQLite counts upwards only for INTEGER keys, whose values have 64 bits there.
    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    topic: Mapped[str] = mapped_column(String(249))
    key: Mapped[bytes] = mapped_column(LargeBinary)
    # None is Kafka's null value: the dead letter of a tombstone.
    value: Mapped[bytes | None] = mapped_column(LargeBinary)
    headers: Mapped[str] = mapped_column(Text)
