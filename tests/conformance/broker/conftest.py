"""A Kafka cluster to test: the one TIDEMILL_TEST_KAFKA names, or an embedded broker of our own."""

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection, create_conn


class Cluster:
    """Clients of one cluster, closed when the test ends, and topics with names of their own."""

    def __init__(self, bootstrap: str, stack: contextlib.AsyncExitStack) -> None:
        self.bootstrap = bootstrap
        self._stack = stack

    def at_end(self, close: Callable[[], Awaitable[None]]) -> None:
        """Has another client closed as well."""
        self._stack.push_async_callback(close)

    @staticmethod
    def name(prefix: str) -> str:
        """A name that no other test uses."""
        return f"{prefix}-{uuid.uuid4().hex[:10]}"

    async def topic(self, partitions: int = 1, **configs: object) -> str:
        """Creates a topic; configs are written with underscores for dots."""
        name = self.name("topic")
        texts = {key.replace("_", "."): str(value) for key, value in configs.items()}
        admin = await self.admin()
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=texts)])
        assert answer.topic_errors[0][1] == 0
        return name

    async def admin(self) -> AIOKafkaAdminClient:
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        self._stack.push_async_callback(client.close)
        await client.start()
        return client

    async def producer(self, **settings: Any) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, **{"acks": "all", "linger_ms": 0, **settings}
        )
        self._stack.push_async_callback(client.stop)
        await client.start()
        return client

    async def consumer(self, *topics: str, **settings: Any) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self.bootstrap,
            **{
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "session_timeout_ms": 6_000,
                "heartbeat_interval_ms": 500,
                "fetch_max_wait_ms": 100,
                **settings,
            },
        )
        self._stack.push_async_callback(client.stop)
        await client.start()
        return client

    async def connection(self) -> AIOKafkaConnection:
        """A bare connection, for requests that no client would send."""
        host, port = self.bootstrap.rsplit(":", 1)
        connection = await create_conn(host, int(port))
        self._stack.callback(connection.close)
        return connection

    @staticmethod
    async def take(
        consumer: AIOKafkaConsumer, count: int, seconds: float = 45
    ) -> list[ConsumerRecord]:
        """The next `count` records."""
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(seconds):
            while len(records) < count:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records.extend(batch)
        return records

    @staticmethod
    async def until(condition: Callable[[], Any], seconds: float = 45) -> None:
        """Waits until the condition, plain or awaitable, is true."""
        async with asyncio.timeout(seconds):
            while True:
                result = condition()
                if await result if isinstance(result, Awaitable) else result:
                    return
                await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address to test."""
    given = os.environ.get("TIDEMILL_TEST_KAFKA")
    if given:
        yield given
        return
    with _child(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.fixture
async def kafka(bootstrap: str) -> AsyncIterator[Cluster]:
    """The cluster."""
    async with contextlib.AsyncExitStack() as stack:
        yield Cluster(bootstrap, stack)


@contextlib.contextmanager
def _child(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tidemill.broker", "--data-dir", str(folder), "--port", "0"]
    command += ["--retention-check-ms", "300", "--group-initial-delay-ms", "50"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        assert line[:1] == ["ready"], (folder / "log").read_text()
        yield line[1]
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0
        process.stdout.close()
