"""Callers and events of ingest while its disk is full or its broker is away: refused with a
reason or kept, never lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from services.ingest.app import lifespan as ingest
from tests.conftest import BrokerProcess, retried
from tests.integration.documents.outside import Outside
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.ingest.v1 import SubmitDocumentRequest
from tidemill.bus.dead_letters.actions import list_dead_letters
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.rpc import call
from tidemill.runtime import Runtime
from tidemill.settings import MeshSettings

ROOMY = 1 << 30
CONTENT = b"Everyone gets 27 days of leave. " * 4_000


@pytest.fixture
async def service(settings: MeshSettings, run_service: Any) -> AsyncIterator[Runtime]:
    async with run_service("ingest", settings, ingest) as runtime:
        yield runtime


@contextmanager
def full_disk(database: Database) -> Iterator[None]:
    """SQLite's own limit of pages: every write that needs another page meets SQLITE_FULL."""
    full = True

    def limit(connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {1 if full else ROOMY}")
        cursor.close()

    for engine in (database.engine.sync_engine, database.direct):
        event.listen(engine, "checkout", limit)
    try:
        yield
    finally:
        full = False


async def submit(outside: Outside, document_id: str) -> str:
    request = SubmitDocumentRequest(
        document_id=document_id, media_type="text/plain", content=CONTENT, request_id=document_id
    )
    stub = outside.ingest()
    response = await call(stub.SubmitDocument, request, token=outside.token, timeout=10.0)
    return str(response.event_id)


async def test_a_full_disk_refuses_calls_with_a_reason_and_holds_events(
    service: Runtime, outside: Outside
) -> None:
    with full_disk(service.database):
        with pytest.raises(Fault) as refused:
            await submit(outside, "called")
        assert refused.value.reason is Reason.STORAGE_FULL
        assert refused.value.retryable
        await outside.submit(topics.DOCUMENTS_SUBMITTED, "sent", "text/plain", CONTENT)
        await eventually(lambda: retried(service, "STORAGE_FULL"))
        assert await outside.document("sent") is None
    await outside.becomes("sent", version=1)
    await submit(outside, "called")
    await outside.becomes("called", version=1)
    assert await list_dead_letters(outside.settings.kafka_address) == []


async def test_a_call_while_the_broker_is_away_is_kept_and_leaves_when_it_is_back(
    broker: BrokerProcess, service: Runtime, outside: Outside
) -> None:
    await asyncio.to_thread(broker.kill)
    event_id = await submit(outside, "promised")
    assert await outside.document("promised") is None
    await asyncio.to_thread(broker.start)
    document = await outside.becomes("promised", version=1)
    assert document.event_id == event_id
    assert await event_ids(outside, topics.DOCUMENTS_SUBMITTED.name) == [event_id]


async def event_ids(outside: Outside, topic: str) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in await outside.read(topic)]
