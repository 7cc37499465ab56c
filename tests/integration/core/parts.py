"""A small service for the tests: it records an effect and publishes an event for each document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Integer, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.tables import create_tables
from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked, DocumentSubmitted
from tidemill.bus import Delivery, UnitOfWork
from tidemill.runtime import Runtime


class Base(DeclarativeBase):
    """Rows of the service under test."""


class Effect(Base):
    """One row for each time an event was applied."""

    __tablename__ = "effects"

    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    event_id: Mapped[str] = mapped_column(String(200))
    tenant_id: Mapped[str] = mapped_column(String(64))


async def record_effect(message: DocumentSubmitted, delivery: Delivery) -> None:
    def work(unit: UnitOfWork) -> None:
        unit.session.add(Effect(event_id=delivery.event_id, tenant_id=delivery.tenant_id))
        unit.publish(topics.DOCUMENTS_CHUNKED, delivery.aggregate_id, DocumentChunked())

    await delivery.apply(work)


@asynccontextmanager
async def recording(runtime: Runtime) -> AsyncIterator[None]:
    await create_tables(runtime.database, Base.metadata)
    runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, record_effect)
    yield


async def effects(runtime: Runtime) -> list[str]:
    async with runtime.database.session() as session:
        query = select(Effect.event_id).order_by(Effect.position)
        return list((await session.scalars(query)).all())
