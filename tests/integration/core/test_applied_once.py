"""An event's effects happen once, however often it is delivered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Integer, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked, DocumentSubmitted
from tidemill.bus import Delivery
from tidemill.runtime import Runtime


class Base(DeclarativeBase):
    """Rows of the service under test."""


class Effect(Base):
    __tablename__ = "effects"

    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    event_id: Mapped[str] = mapped_column(String(200))


async def record_effect(message: DocumentSubmitted, delivery: Delivery) -> None:
    async with delivery.apply() as unit:
        unit.session.add(Effect(event_id=delivery.event_id))
        unit.publish(topics.DOCUMENTS_CHUNKED, delivery.aggregate_id, DocumentChunked())


@asynccontextmanager
async def recording(runtime: Runtime) -> AsyncIterator[None]:
    await runtime.database.create_tables(Base.metadata)
    runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, record_effect)
    yield


async def effects(runtime: Runtime) -> list[str]:
    async with runtime.database.session() as session:
        return list((await session.scalars(select(Effect.event_id))).all())


async def test_the_same_event_sent_five_times_has_one_effect(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    async with run_service("ingest", outside.settings, recording) as runtime:
        message = DocumentSubmitted()
        for _ in range(5):
            await outside.publish(topics.DOCUMENTS_SUBMITTED, "doc", message, event_id="same")
        await outside.publish(topics.DOCUMENTS_SUBMITTED, "doc", message, event_id="last")

        async def last_applied() -> bool:
            return "last" in await effects(runtime)

        await eventually(last_applied)
        assert await effects(runtime) == ["same", "last"]

        async def published() -> bool:
            return len(await outside.read("documents.chunked.v1")) >= 2

        await eventually(published)
    assert len(await outside.read("documents.chunked.v1")) == 2
    assert await outside.read("documents.submitted.v1.dlq") == []
