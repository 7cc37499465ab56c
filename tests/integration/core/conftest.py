"""Raw Kafka on both sides of a service, so that the bus is not judged by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from google.protobuf.message import Message

from tests.senders import subject_of
from tidemill.api.events.v1 import DocumentSubmitted
from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings, GroupLimits
from tidemill.bus.admin import create_topics
from tidemill.bus.envelope import TOKEN, event_headers
from tidemill.clock import SystemClock
from tidemill.ids import new_id
from tidemill.settings import MeshSettings
from tidemill.topics import DOCUMENTS_SUBMITTED, Topic

WAIT_SECONDS = 20.0


@asynccontextmanager
async def open_broker(folder: Path) -> AsyncIterator[EmbeddedBroker]:
    """On the loop of whoever opens it, over TCP: it starts at once."""
    settings = BrokerSettings(data_dir=folder, port=0, groups=GroupLimits(initial_delay_ms=0))
    async with EmbeddedBroker(settings) as embedded:
        await create_topics(embedded.bootstrap)
        yield embedded


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    """Tests that kill their broker use start_broker."""
    async with open_broker(tmp_path / "broker") as embedded:
        yield embedded


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Wait until an async condition gives something true; its last value is returned."""

    async def wait(condition: Callable[[], Awaitable[Any]], seconds: float = WAIT_SECONDS) -> Any:
        async with asyncio.timeout(seconds):
            while True:
                if value := await condition():
                    return value
                await asyncio.sleep(0.02)

    return wait


@dataclass
class Outside:
    """A producer and a reader that know Kafka and the envelope, and nothing of the bus."""

    bootstrap: str
    settings: MeshSettings
    mint: Callable[..., str]
    producer: AIOKafkaProducer

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: dict[str, str | bytes],
        partition: int | None = None,
    ) -> None:
        raw = [(k, v if isinstance(v, bytes) else v.encode()) for k, v in headers.items()]
        await self.producer.send_and_wait(topic, value, key=key, headers=raw, partition=partition)

    def headers(
        self, topic: Topic[Any], event_id: str | None = None, tenant: str = "acme"
    ) -> dict[str, str | bytes]:
        identifier = event_id or new_id("evt")
        headers = event_headers(topic, identifier, "outside", SystemClock().now())
        if topic.write_scope:
            headers[TOKEN] = self.mint(
                self.settings, tenant, topic.write_scope, events=True, subject=subject_of(topic)
            )
        return dict(headers)

    async def publish(
        self,
        topic: Topic[Any],
        aggregate: str,
        message: Message,
        *,
        tenant: str = "acme",
        event_id: str | None = None,
        **changes: str | bytes,
    ) -> str:
        headers = self.headers(topic, event_id, tenant)
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        key = f"{tenant}/{aggregate}".encode()
        await self.send(topic.name, key, message.SerializeToString(), headers)
        return str(headers["ce_id"])

    async def submit(self, aggregate: str, **options: Any) -> str:
        return await self.publish(DOCUMENTS_SUBMITTED, aggregate, DocumentSubmitted(), **options)

    async def rewind(self, topic: Topic[Any], service: str = "ingest") -> None:
        """Set a service's group back to the start of a topic; it must not be running."""
        partitions = [TopicPartition(topic.name, i) for i in range(topic.partitions)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=f"tidemill.{service}.{topic.name}"
        )
        await consumer.start()
        try:
            consumer.assign(partitions)
            await consumer.commit({partition: 0 for partition in partitions})
        finally:
            await consumer.stop()

    async def read(self, topic: str) -> list[Any]:
        """All records of a topic as they are now."""
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = sorted(consumer.assignment())
            ends = await consumer.end_offsets(partitions)
            return [r for p in partitions for r in await read_until(consumer, p, ends[p])]
        finally:
            await consumer.stop()


async def read_until(consumer: Any, partition: TopicPartition, end: int) -> list[Any]:
    records: list[Any] = []
    while await consumer.position(partition) < end:
        batch = await consumer.getmany(partition, timeout_ms=500)
        records += batch.get(partition, [])
    return records


@pytest.fixture
async def outside(
    broker: Any, tmp_path: Path, mesh_settings: Any, mint: Callable[..., str]
) -> AsyncIterator[Outside]:
    settings = mesh_settings(tmp_path / "home", kafka=broker.bootstrap)
    async with producing(broker.bootstrap) as producer:
        yield Outside(broker.bootstrap, settings, mint, producer)


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_request_size=22 * 1024 * 1024
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
