"""Brokers of this project alone: in the test's own process, or as children to be killed."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from tidemill.broker.settings import BrokerSettings, GroupLimits


class Child:
    """A broker process on a folder; after `kill` or `stop` it can be started again. prefix: a
    command that runs it, such as strace."""

    prefix: tuple[str, ...] = ()

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "Child":
        command = [*self.prefix, sys.executable, "-m", "tidemill.broker"]
        command += ["--data-dir", str(self.folder)]
        command += ["--port", str(self.port), "--group-initial-delay-ms", "0", *self.arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        ready, _, address = self.process.stdout.readline().partition(" ")
        assert ready == "ready"
        self.port = int(address.rsplit(":", 1)[1])
        return self

    def kill(self) -> int:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        return self._wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self._wait()

    def _wait(self) -> int:
        process, self.process = self.process, None
        assert process is not None
        assert process.stdout is not None
        code = process.wait(timeout=15)
        process.stdout.close()
        return code


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """child(*arguments): a started broker process on the test's folder."""
    children: list[Child] = []

    def start(*arguments: str, folder: Path | None = None, port: int = 0) -> Child:
        children.append(Child(folder or tmp_path / "data", *arguments))
        children[-1].port = port
        return children[-1].start()

    yield start
    for broker in children:
        if broker.process is not None:
            broker.kill()


@pytest.fixture
def settings(tmp_path: Path) -> BrokerSettings:
    """For a broker in this process; groups start at once."""
    return BrokerSettings(
        data_dir=tmp_path / "data", port=0, groups=GroupLimits(initial_delay_ms=0)
    )


class Clients:
    """aiokafka clients that end with the test, or with the `async with` they are used in.

    They must end before their broker does: without one, aiokafka's stop waits for its timeout.
    """

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Clients":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def topic(
        self, bootstrap: str, name: str = "topic", partitions: int = 1, **configs: object
    ) -> str:
        texts = {key.replace("_", "."): str(value) for key, value in configs.items()}
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            topic = NewTopic(name, partitions, 1, topic_configs=texts)
            code = (await admin.create_topics([topic])).topic_errors[0][1]
            if code:
                raise for_code(code)
        finally:
            await admin.close()
        return name

    async def delete_topic(self, bootstrap: str, name: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            assert (await admin.delete_topics([name])).topic_error_codes[0][1] == 0
        finally:
            await admin.close()

    async def producer(self, bootstrap: str, **settings: Any) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            bootstrap_servers=bootstrap, **{"acks": "all", "retry_backoff_ms": 50, **settings}
        )
        self._stack.push_async_callback(client.stop)
        await client.start()
        return client

    async def consumer(self, bootstrap: str, *topics: str, **settings: Any) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap,
            **{
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "session_timeout_ms": 6_000,
                "heartbeat_interval_ms": 500,
                "retry_backoff_ms": 50,
                **settings,
            },
        )
        self._stack.push_async_callback(client.stop)
        await client.start()
        return client

    async def read_all(self, bootstrap: str, topic: str) -> list[bytes]:
        """Every value of the topic, from the first offset to the present end."""
        consumer = await self.consumer(bootstrap, topic)
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        values: list[bytes] = []
        async with asyncio.timeout(20):
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        values += [record.value for record in records]
        return values


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with Clients() as all_clients:
        yield all_clients


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """until(condition): waits until the condition, plain or awaitable, is true."""

    async def wait(condition: Callable[[], Any], seconds: float = 45) -> None:
        async with asyncio.timeout(seconds):
            while True:
                result = condition()
                if await result if isinstance(result, Awaitable) else result:
                    return
                await asyncio.sleep(0.01)

    return wait
