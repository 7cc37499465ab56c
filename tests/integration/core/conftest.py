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

from tidemill.bus.envelope import TOKEN, event_headers
from tidemill.clock import SystemClock
from tidemill.ids import new_id
from tidemill.settings import MeshSettings
from tidemill.topics import Topic

WAIT_SECONDS = 20.0


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Wait until an async condition gives something true; its last value is returned."""

    async def wait(condition: Callable[[], Awaitable[Any]], seconds: float = WAIT_SECONDS) -> Any:
        async with asyncio.timeout(seconds):
            while not (value := await condition()):
                await asyncio.sleep(0.02)
        return value

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
            headers[TOKEN] = self.mint(self.settings, tenant, topic.write_scope, events=True)
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

    async def read(self, topic: str) -> list[Any]:
        """All records of a topic as they are now."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            found = await consumer._client.fetch_all_metadata()
            ids = found.partitions_for_topic(topic) or set()
            partitions = [TopicPartition(topic, i) for i in sorted(ids)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            records = []
            for partition in partitions:
                consumer.seek(partition, 0)
                records += await read_until(consumer, partition, ends[partition])
            return records
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
