"""The records in hand: an offset is committed only when everything before it is settled."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from tests.tables import create_tables
from tidemill.api.events.v1 import DocumentChunked
from tidemill.bus import Delivery
from tidemill.bus.commits import GroupCommit
from tidemill.bus.consumer import Consumer
from tidemill.bus.dispatcher import OrderedDispatcher
from tidemill.bus.envelope import EVENT_ID, Record
from tidemill.bus.tables import BusBase
from tidemill.clock import SystemClock
from tidemill.db import Database
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity
from tidemill.telemetry import open_telemetry
from tidemill.topics import DOCUMENTS_CHUNKED

PLACE = TopicPartition(DOCUMENTS_CHUNKED.name, 0)


class Desk:
    """A dispatcher whose handler waits for the documents that are named as slow."""

    def __init__(self, dispatcher: OrderedDispatcher, free: asyncio.Event) -> None:
        self.dispatcher = dispatcher
        self.free = free
        self.committed: list[int] = []
        self.committing = asyncio.Event()

    async def put(self, offset: int, document: str) -> None:
        message = DocumentChunked(tenant_id="acme", document_id=document)
        record = Record(
            topic=DOCUMENTS_CHUNKED.name,
            partition=0,
            offset=offset,
            key=f"acme/{document}".encode(),
            value=message.SerializeToString(),
            headers={EVENT_ID: f"e-{offset}"},
            time=datetime(2026, 1, 5, tzinfo=UTC),
        )

        async def commit(offsets: Mapping[TopicPartition, int]) -> None:
            self.committed += offsets.values()
            self.committing.set()

        await self.dispatcher.put([record], commit)


@pytest.fixture
async def desk(database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    await create_tables(database, BusBase.metadata)
    free, clock = asyncio.Event(), SystemClock()

    async def handler(message: DocumentChunked, delivery: Delivery) -> None:
        if message.document_id == "slow":
            await free.wait()

    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        consumer = Consumer(
            topic=DOCUMENTS_CHUNKED,
            handler=handler,
            service="test",
            database=database,
            identity=Identity(load_or_create_key(tmp_path), "test", clock),
            clock=clock,
            telemetry=telemetry,
            commits=GroupCommit(database, lambda: None),
        )
        dispatcher = OrderedDispatcher(consumer, lambda: None)
        yield Desk(dispatcher, free)
        free.set()
        await dispatcher.drain(5.0)


async def test_a_record_that_is_set_aside_holds_the_offset_back(desk: Desk) -> None:
    await desk.put(0, "slow")
    await desk.put(1, "quick")
    assert max(desk.committed, default=0) == 0
    desk.free.set()
    await desk.dispatcher.drain(5.0)
    assert desk.committed[-1] == 2


async def test_a_record_from_before_a_rebalance_moves_no_offset_after_it(desk: Desk) -> None:
    """It was handed out, then the partition went and came back, from an earlier offset."""
    await desk.dispatcher.on_partitions_revoked({PLACE})
    await desk.put(7, "slow")
    await desk.dispatcher.on_partitions_assigned({PLACE})
    await desk.put(5, "quick")
    async with asyncio.timeout(10):
        await desk.committing.wait()
    assert desk.committed == [6]
