"""FastStream as the mesh uses it: acks all, idempotence, explicit ack policy, several replicas."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

REPLICA = """
import asyncio, sys
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
async def main(bootstrap):
    broker = KafkaBroker(bootstrap, ack_policy=AckPolicy.ACK, logger=None)
    @broker.subscriber("work", group_id="replicas", auto_offset_reset="earliest",
                       session_timeout_ms=6000, heartbeat_interval_ms=500)
    async def handle(value: bytes) -> None:
        print(value.decode(), flush=True)
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main(sys.argv[1]))
"""


async def test_a_chain_of_subscribers_handles_every_event_once(
    child: Callable[..., Any], clients: Any, until: Any
) -> None:
    server = child()
    for topic in ("documents", "chunks"):
        await clients.topic(server.bootstrap, topic, partitions=3)
    mesh = KafkaBroker(
        server.bootstrap,
        acks="all",
        enable_idempotence=True,
        ack_policy=AckPolicy.ACK,
        allow_auto_create_topics=False,
        logger=None,
    )
    seen: list[tuple[bytes, str]] = []

    @mesh.subscriber("documents", group_id="ingest", auto_offset_reset="earliest")
    async def ingest(value: bytes) -> None:
        await mesh.publish(value + b"#0", "chunks", key=value, headers={"tenant": "acme"})

    @mesh.subscriber("chunks", group_id="embedder", auto_offset_reset="earliest")
    async def embed(value: bytes, message: KafkaMessage) -> None:
        seen.append((value, message.headers["tenant"]))

    async with mesh:
        await mesh.start()
        for index in range(50):
            await mesh.publish(b"d%d" % index, "documents", key=b"d%d" % index)
        await until(lambda: len(seen) >= 50)
    assert sorted(seen) == sorted((b"d%d#0" % index, "acme") for index in range(50))


@pytest.fixture
def server(child: Callable[..., Any]) -> Any:
    return child()


@pytest.fixture
def victim(server: Any) -> Iterator[subprocess.Popen[str]]:
    """A replica in a process of its own, to be killed."""
    command = [sys.executable, "-c", REPLICA, server.bootstrap]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _replica(bootstrap: str, handled: list[bytes]) -> KafkaBroker:
    replica = KafkaBroker(bootstrap, ack_policy=AckPolicy.ACK, logger=None)

    @replica.subscriber(
        "work",
        group_id="replicas",
        auto_offset_reset="earliest",
        session_timeout_ms=6_000,
        heartbeat_interval_ms=500,
    )
    async def handle(value: bytes) -> None:
        handled.append(value)

    return replica


async def _read_lines(process: subprocess.Popen[str], handled: list[bytes]) -> None:
    assert process.stdout is not None
    while line := await asyncio.to_thread(process.stdout.readline):
        handled.append(line.strip().encode())


@pytest.mark.slow
async def test_two_replicas_finish_the_work_of_a_killed_third(
    server: Any, victim: subprocess.Popen[str], clients: Any, until: Any
) -> None:
    await clients.topic(server.bootstrap, "work", partitions=6)
    producer = await clients.producer(server.bootstrap, enable_idempotence=True)
    handled: list[list[bytes]] = [[], [], []]
    sent: set[bytes] = set()

    async def send() -> None:
        value = b"item-%d" % len(sent)
        sent.add(value)
        await producer.send_and_wait("work", value, key=value)

    async def all_are_working() -> bool:
        await send()
        return all(handled)

    async with (
        _replica(server.bootstrap, handled[0]) as first,
        _replica(server.bootstrap, handled[1]) as second,
    ):
        await first.start()
        await second.start()
        reading = asyncio.create_task(_read_lines(victim, handled[2]))
        try:
            await until(all_are_working, 60)
        finally:
            victim.kill()
        for _ in range(200):
            await send()
        await until(lambda: sent <= {value for mine in handled for value in mine}, 40)
        await reading
    everything = [value for mine in handled for value in mine]
    assert len(everything) - len(set(everything)) <= 20, "at most what was in flight comes twice"
