"""The transaction coordinator of this broker: restarts, full disks, what overtakes what."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import ProducerFenced
from crc32c import crc32c

from tests.unit.broker.test_full_disk import FailingDisk
from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings

GROUP = "group"


class Reader:
    """What a reader of committed records has got so far."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.values: list[bytes] = []

    async def has(self, *values: bytes) -> bool:
        for records in (await self._consumer.getmany(timeout_ms=50)).values():
            self.values += [record.value for record in records]
        return self.values == list(values)


async def _reader(clients: Any, bootstrap: str, topic: str) -> Reader:
    return Reader(await clients.consumer(bootstrap, topic, isolation_level="read_committed"))


async def _committed(clients: Any, bootstrap: str, topic: str) -> int | None:
    consumer = await clients.consumer(bootstrap, group_id=GROUP)
    offset: int | None = await consumer.committed(TopicPartition(topic, 0))
    return offset


def _offset(topic: str, offset: int) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(topic, 0): OffsetAndMetadata(offset, "")}


@pytest.mark.parametrize("rewritten", [False, True])
async def test_an_open_transaction_goes_on_after_a_restart(
    settings: BrokerSettings, clients: Any, until: Any, rewritten: bool
) -> None:
    async with EmbeddedBroker(settings) as broker:
        settings = _on_port(settings, broker)
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, transactional_id="id")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"before")
        await producer.send_offsets_to_transaction(_offset(topic, 1), GROUP)
        if rewritten:
            assert broker._node is not None
            broker._node.compact_journal()
    async with EmbeddedBroker(settings) as broker, clients:
        plain = await clients.producer(broker.bootstrap)
        await plain.send_and_wait(topic, b"plain")
        reader = await _reader(clients, broker.bootstrap, topic)
        assert not await reader.has(b"before", b"plain"), "it is open still"
        assert reader.values == []
        assert await _committed(clients, broker.bootstrap, topic) is None
        await producer.send_and_wait(topic, b"after")
        await producer.commit_transaction()
        await until(lambda: reader.has(b"before", b"plain", b"after"))
        assert await _committed(clients, broker.bootstrap, topic) == 1


def _on_port(settings: BrokerSettings, broker: EmbeddedBroker) -> BrokerSettings:
    return replace(settings, port=int(broker.bootstrap.rpartition(":")[2]))


async def test_a_timeout_runs_on_through_a_restart(
    child: Callable[..., Any], clients: Any, until: Any
) -> None:
    broker = child()
    topic = await clients.topic(broker.bootstrap)
    producer = await clients.producer(
        broker.bootstrap, transactional_id="id", transaction_timeout_ms=1_500
    )
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"left alone")
    plain = await clients.producer(broker.bootstrap)
    await plain.send_and_wait(topic, b"behind")
    broker.kill()
    broker.start()
    reader = await _reader(clients, broker.bootstrap, topic)
    await until(lambda: reader.has(b"behind"))
    with pytest.raises(ProducerFenced):
        await producer.commit_transaction()


async def test_a_commit_that_a_full_disk_holds_up_is_carried_out_later(
    settings: BrokerSettings, clients: Any, until: Any
) -> None:
    disk = DiskThatRefusesMarkers()
    async with EmbeddedBroker(settings, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, transactional_id="id")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"value")
        disk.refuses = True
        await producer.commit_transaction()
        reader = await _reader(clients, broker.bootstrap, topic)
        assert not await reader.has(b"value"), "decided, but no marker could be written"
        await producer.begin_transaction()
        next_one = asyncio.create_task(producer.send_and_wait(topic, b"next"))
        assert not (await asyncio.wait([next_one], timeout=0.3))[0], "one at a time"
        disk.refuses = False
        await until(lambda: reader.has(b"value"))
        await next_one
        await producer.commit_transaction()
        await until(lambda: reader.has(b"value", b"next"))


class DiskThatRefusesMarkers(FailingDisk):
    """Full for markers, which are the writes of 78 bytes; the journal still has room."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False

    def write_at(self, descriptor: int, position: int, chunks: Any) -> None:
        self.is_full = self.refuses and sum(map(len, chunks)) == 78
        super().write_at(descriptor, position, chunks)


async def test_a_decision_that_can_not_be_journaled_is_none(
    settings: BrokerSettings, clients: Any, until: Any
) -> None:
    disk = FailingDisk()
    async with EmbeddedBroker(settings, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, transactional_id="id")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"value")
        disk.is_full = True
        commit = asyncio.create_task(producer.commit_transaction())
        assert not (await asyncio.wait([commit], timeout=0.3))[0]
        reader = await _reader(clients, broker.bootstrap, topic)
        assert not await reader.has(b"value")
        disk.is_full = False
        await commit
        await until(lambda: reader.has(b"value"))


async def test_a_later_plain_commit_overtakes_offsets_of_an_open_transaction(
    settings: BrokerSettings, clients: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        plain = await clients.producer(broker.bootstrap)
        for _ in range(9):
            await plain.send_and_wait(topic, b"value")
        producer = await clients.producer(broker.bootstrap, transactional_id="id")
        await producer.begin_transaction()
        await producer.send_offsets_to_transaction(_offset(topic, 3), GROUP)
        consumer = await clients.consumer(broker.bootstrap, group_id=GROUP)
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit(_offset(topic, 5))
        await producer.commit_transaction()
        assert await _committed(clients, broker.bootstrap, topic) == 5


async def test_a_deleted_topic_takes_its_part_of_a_transaction_along(
    settings: BrokerSettings, clients: Any, until: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        other = await clients.topic(broker.bootstrap, name="other")
        producer = await clients.producer(broker.bootstrap, transactional_id="id")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"gone")
        await producer.send_and_wait(other, b"kept")
        await producer.send_offsets_to_transaction(_offset(topic, 1), GROUP)
        assert broker._node is not None
        await clients.delete_topic(broker.bootstrap, topic)
        await clients.topic(broker.bootstrap)
        await producer.commit_transaction()
        reader = await _reader(clients, broker.bootstrap, other)
        await until(lambda: reader.has(b"kept"))
        assert broker._node.topics.partition(topic, 0).end_offset == 0
        assert await _committed(clients, broker.bootstrap, topic) is None


async def test_a_transaction_the_journal_has_lost_holds_no_reader_for_ever(
    child: Callable[..., Any], clients: Any, until: Any, tmp_path: Path
) -> None:
    """After a power cut the journal may be older than the log."""
    broker = child()
    topic = await clients.topic(broker.bootstrap)
    producer = await clients.producer(broker.bootstrap, transactional_id="id")
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"forgotten")
    broker.kill()
    journal = tmp_path / "data" / "journal"
    lines = [json.loads(line.partition(b" ")[2]) for line in journal.read_bytes().splitlines()]
    kept = [json.dumps(line).encode() for line in lines if line["kind"] != "transaction"]
    assert len(kept) < len(lines)
    journal.write_bytes(b"".join(b"%08x %s\n" % (crc32c(body), body) for body in kept))
    broker.start()
    plain = await clients.producer(broker.bootstrap)
    await plain.send_and_wait(topic, b"plain")
    reader = await _reader(clients, broker.bootstrap, topic)
    await until(lambda: reader.has(b"plain"))


async def test_ids_that_nobody_uses_are_forgotten(settings: BrokerSettings, clients: Any) -> None:
    clock = _Clock()
    async with EmbeddedBroker(settings, clock=clock) as broker, clients:
        await clients.producer(broker.bootstrap, transactional_id="id")
        assert broker._node is not None
        transactions = broker._node.transactions
        await transactions.expire()
        assert [row["id"] for row in transactions.snapshot()] == ["id"]
        clock.ms += settings.transactions.id_expiry_ms + 1
        await transactions.expire()
        assert list(transactions.snapshot()) == []
    async with EmbeddedBroker(settings, clock=clock) as broker:
        assert broker._node is not None
        assert list(broker._node.transactions.snapshot()) == []


class _Clock:
    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms
