"""One consumer without a framework around it, so that a test decides what is delivered and when.

Broker, envelope, rows, inbox, relay and dead letters are the real ones; only FastStream's loop is
replaced by deliver(), which may lose its offset as often as the test wants.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.integration.core.parts import Base, Effect
from tests.tables import create_tables
from tidemill.api.events.v1 import DocumentChunked
from tidemill.backoff import Backoff
from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings
from tidemill.bus import Delivery
from tidemill.bus.admin import create_topics
from tidemill.bus.commits import GroupCommit
from tidemill.bus.consumer import Consumer
from tidemill.bus.envelope import event_headers
from tidemill.bus.failures import DlqCircuitBreaker, RetryPolicy
from tidemill.bus.kafka import record_of
from tidemill.bus.outbox import Outgoing, Relay
from tidemill.bus.tables import BusBase
from tidemill.clock import SystemClock
from tidemill.db import Database, open_database
from tidemill.faults import Fault, Reason
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity
from tidemill.telemetry import open_telemetry
from tidemill.topics import DOCUMENTS_CHUNKED

TOPIC = DOCUMENTS_CHUNKED
PLACES = [TopicPartition(TOPIC.name, n) for n in range(TOPIC.partitions)]
AT_ONCE = RetryPolicy(backoff=Backoff(0.0, 0.0))


@dataclass
class House:
    """A consumer of documents.chunked.v1 that fails while it is broken."""

    bootstrap: str
    database: Database
    identity: Identity
    producer: AIOKafkaProducer
    reader: AIOKafkaConsumer
    consumer: Consumer[DocumentChunked] = field(init=False)
    relay: Relay = field(init=False)
    broken: bool = True
    positions: Counter[TopicPartition] = field(default_factory=Counter)
    tries: Counter[str] = field(default_factory=Counter)

    async def handle(self, message: DocumentChunked, delivery: Delivery) -> None:
        self.tries[delivery.event_id] += 1
        if self.broken:
            raise Fault(Reason.DOCUMENT_BROKEN)
        effect = Effect(event_id=delivery.event_id, tenant_id=delivery.tenant_id)
        await delivery.apply(lambda unit: unit.session.add(effect))

    async def submit(self, event_id: str) -> None:
        headers = event_headers(TOPIC, event_id, "test", SystemClock().now())
        raw = [(name, text.encode()) for name, text in headers.items()]
        key = f"acme/{event_id}".encode()
        await self.producer.send_and_wait(TOPIC.name, b"", key=key, headers=raw)

    async def deliver(self, again: int = 0) -> None:
        """Take the rest of the topic, and each partition's last `again` records once more."""
        ends = await self.reader.end_offsets(PLACES)
        for place in PLACES:
            self.reader.seek(place, max(0, self.positions[place] - again))
            while await self.reader.position(place) < ends[place]:
                await self.consumer.take(record_of(await self.reader.getone(place)))
            self.positions[place] = ends[place]
        while await self.relay.depth():
            await self.relay.move_batch()

    async def enqueue(self, row: Outgoing) -> Any:
        raw = [(name, text.encode()) for name, text in json.loads(row.headers).items()]
        return await self.producer.send(row.topic, row.value, key=row.key, headers=raw)


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    """A house with its own broker and rows in that folder."""
    clock = SystemClock()
    identity = Identity(load_or_create_key(folder / "keys"), "test", clock)
    broker = EmbeddedBroker(BrokerSettings(data_dir=folder / "broker", port=0))
    with open_telemetry("test", folder / "telemetry", metrics_port=None) as telemetry:
        url = f"sqlite+aiosqlite:///{folder / 'rows.db'}"
        async with broker, open_database(url) as database:
            await create_topics(broker.bootstrap)
            await create_tables(database, BusBase.metadata)
            await create_tables(database, Base.metadata)
            async with clients(broker.bootstrap) as (producer, reader):
                house = House(broker.bootstrap, database, identity, producer, reader)
                house.relay = Relay(database, house.enqueue)
                house.consumer = Consumer(
                    topic=TOPIC,
                    handler=house.handle,
                    service="test",
                    database=database,
                    identity=identity,
                    clock=clock,
                    telemetry=telemetry,
                    commits=GroupCommit(database, house.relay.wake),
                    policy=AT_ONCE,
                    breaker=DlqCircuitBreaker(in_a_row=10**6, window=10**6),
                )
                yield house


@asynccontextmanager
async def clients(bootstrap: str) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=50)
    await producer.start()
    await reader.start()
    reader.assign(PLACES)
    try:
        yield producer, reader
    finally:
        await reader.stop()
        await producer.stop()
