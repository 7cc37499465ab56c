"""Transactions and kill -9: what was decided happens everywhere, what was not nowhere."""

import asyncio
import contextlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.conn import create_conn
from aiokafka.protocol.transaction import EndTxnRequest

PARTITIONS = 3
# The decision, a marker for each partition, the offsets, the completion.
WRITES_OF_A_COMMIT = 1 + PARTITIONS + 2
COMMIT, ABORT = True, False


@contextlib.contextmanager
def _dying(folder: Path, writes: int, fsync: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port; gone afterwards whatever happens."""
    script = Path(__file__).with_name("dying_broker.py")
    command = [sys.executable, str(script), "--data-dir", str(folder)]
    command += ["--writes", str(writes), "--fsync", fsync]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        ready, _, address = process.stdout.readline().partition(" ")
        assert ready == "ready"
        yield process, int(address.rpartition(":")[2])
    finally:
        process.stdout.close()
        process.kill()
        process.wait()


async def _committed_records(clients: Any, bootstrap: str, topic: str) -> list[bytes]:
    consumer = await clients.consumer(bootstrap, topic, isolation_level="read_committed")
    partitions = list(consumer.assignment())
    ends = await consumer.end_offsets(partitions)
    values: list[bytes] = []
    async with asyncio.timeout(20):
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(partition, timeout_ms=100)).values():
                    values += [record.value for record in records]
    return values


async def _committed_offset(clients: Any, bootstrap: str, topic: str) -> int | None:
    consumer = await clients.consumer(bootstrap, group_id="group")
    offset: int | None = await consumer.committed(TopicPartition(topic, 0))
    return offset


async def _end_by_hand(bootstrap: str, producer: Any, *, is_commit: bool) -> None:
    """One EndTxn that no one repeats when the connection is lost."""
    manager = producer._txn_manager
    request = EndTxnRequest(
        manager.transactional_id, manager.producer_id, manager.producer_epoch, is_commit
    )
    host, port = bootstrap.rsplit(":", 1)
    connection = await create_conn(host, int(port))
    with contextlib.suppress(Exception):  # However it ends: the broker dies of it.
        await connection.send(request)
    connection.close()


@pytest.mark.parametrize(
    ("outcome", "writes", "fsync"),
    [
        *((COMMIT, writes, "never") for writes in range(WRITES_OF_A_COMMIT)),
        (COMMIT, 2, "always"),
        *((ABORT, writes, "never") for writes in (1, 3)),
    ],
)
async def test_a_broker_killed_while_it_ends_a_transaction_ends_it_as_decided(
    child: Callable[..., Any],
    clients: Any,
    tmp_path: Path,
    outcome: bool,
    writes: int,
    fsync: str,
) -> None:
    with _dying(tmp_path / "data", writes, fsync) as (dying, port):
        bootstrap = f"127.0.0.1:{port}"
        topic = await clients.topic(bootstrap, partitions=PARTITIONS)
        producer = await clients.producer(bootstrap, transactional_id="id")
        await producer.begin_transaction()
        for index in range(PARTITIONS):
            await producer.send_and_wait(topic, b"%d" % index, partition=index)
        offsets = {TopicPartition(topic, 0): OffsetAndMetadata(1, "")}
        await producer.send_offsets_to_transaction(offsets, "group")
        await _end_by_hand(bootstrap, producer, is_commit=outcome)
        assert await asyncio.to_thread(dying.wait, 10) == -9
    child(port=port)
    is_committed = outcome and writes > 0
    seen = await _committed_records(clients, bootstrap, topic)
    assert sorted(seen) == ([b"0", b"1", b"2"] if is_committed else [])
    offset = await _committed_offset(clients, bootstrap, topic)
    assert offset == (1 if is_committed else None)
    # The client that never heard of it may ask again, and may go on.
    await (producer.commit_transaction() if outcome else producer.abort_transaction())
    async with producer.transaction():
        await producer.send_and_wait(topic, b"next", partition=0)
    seen = await _committed_records(clients, bootstrap, topic)
    assert sorted(seen) == ([b"0", b"1", b"2", b"next"] if outcome else [b"next"])


class _Writer:
    """One transactional producer; says what it committed and what it aborted."""

    def __init__(self, producer: Any, topic: str, name: str) -> None:
        self._producer = producer
        self._topic = topic
        self._name = name
        self.committed: list[bytes] = []
        self.offset = 0

    async def run(self) -> None:
        for number in range(10_000):
            keeps = random.random() < 0.7
            word = f"{self._name}-{number}-{'kept' if keeps else 'dropped'}"
            values = [f"{word}-{index}".encode() for index in range(PARTITIONS)]
            await self._producer.begin_transaction()
            for index, value in enumerate(values):
                await self._producer.send(self._topic, value, partition=index)
            rows = {TopicPartition(self._topic, 0): OffsetAndMetadata(number + 1, "")}
            await self._producer.send_offsets_to_transaction(rows, self._name)
            if keeps:
                await self._producer.commit_transaction()
                self.committed += values
                self.offset = number + 1
            else:
                await self._producer.abort_transaction()


async def test_kill_9_under_load_leaves_every_transaction_whole(
    child: Callable[..., Any], clients: Any, until: Any
) -> None:
    broker = child()
    topic = await clients.topic(
        broker.bootstrap, partitions=PARTITIONS, internal_segment_bytes=20_000
    )
    writers = [
        _Writer(
            await clients.producer(broker.bootstrap, transactional_id=name, linger_ms=0),
            topic,
            name,
        )
        for name in ("one", "two")
    ]
    tasks = [asyncio.create_task(writer.run()) for writer in writers]

    def count() -> int:
        for task in tasks:
            assert not task.done(), task.exception()
        return sum(len(writer.committed) for writer in writers)

    for _ in range(4):
        target = count() + random.randrange(60, 300)
        await until(lambda: count() >= target)  # noqa: B023
        broker.kill()
        broker.start()
    target = count() + 60
    await until(lambda: count() >= target)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in writers:  # A new start ends what the cancelled ones had open.
        await clients.producer(broker.bootstrap, transactional_id=writer._name)
    seen = await _committed_records(clients, broker.bootstrap, topic)
    acked = {value for writer in writers for value in writer.committed}
    assert len(seen) == len(set(seen)), "a record is there twice"
    assert acked <= set(seen), "a committed record is gone"
    assert not [value for value in seen if b"dropped" in value], "an aborted record is there"
    rounds: dict[bytes, int] = {}
    for value in seen:
        rounds[value.rpartition(b"-")[0]] = rounds.get(value.rpartition(b"-")[0], 0) + 1
    assert set(rounds.values()) == {PARTITIONS}, "a transaction is there by half"
    for writer in writers:
        reader = await clients.consumer(broker.bootstrap, group_id=writer._name)
        assert await reader.committed(TopicPartition(topic, 0)) >= writer.offset
