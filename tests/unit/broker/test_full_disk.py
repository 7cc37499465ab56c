"""A full or failing disk: nothing is half-written, nothing acknowledged is lost, work resumes."""

import asyncio
import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import KafkaError, KafkaStorageError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings, FsyncPolicy
from tidemill.broker.storage.disk import Buffer, Disk

STORAGE_ERROR = 56


class FailingDisk(Disk):
    """Writes half of what it is given and then has no space, while `is_full`."""

    def __init__(self) -> None:
        self.is_full = False
        self.cannot_sync = False

    def write_at(self, descriptor: int, position: int, chunks: Sequence[Buffer]) -> None:
        if self.is_full:
            whole = b"".join(chunks)
            os.pwrite(descriptor, whole[: len(whole) // 2], position)
            raise OSError(errno.ENOSPC, "no space")
        super().write_at(descriptor, position, chunks)

    def sync(self, descriptor: int) -> None:
        if self.cannot_sync:
            raise OSError(errno.EIO, "broken")
        super().sync(descriptor)


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


def _request(topic: str, value: bytes) -> ProduceRequest:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 1_800_000_000_000, None, value, [])
    return ProduceRequest(None, -1, 5_000, [(topic, [(0, bytes(builder.build()))])])


async def test_a_full_disk_is_a_retriable_error_and_work_resumes(
    settings: BrokerSettings, disk: FailingDisk, clients: Any
) -> None:
    async with EmbeddedBroker(settings, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, enable_idempotence=True)
        await producer.send_and_wait(topic, b"before")
        disk.is_full = True
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
        answer = await producer.client.send(node, _request(topic, b"refused"))
        assert answer.topics[0][1][0][1] == STORAGE_ERROR
        assert KafkaStorageError.retriable
        waiting = await producer.send(topic, b"after")
        disk.is_full = False
        assert (await waiting).offset == 1
    async with EmbeddedBroker(settings) as broker, clients:
        assert await clients.read_all(broker.bootstrap, topic) == [b"before", b"after"]


async def test_nothing_of_a_refused_batch_stays_in_the_file(
    settings: BrokerSettings, disk: FailingDisk, clients: Any
) -> None:
    async with EmbeddedBroker(settings, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap)
        await producer.send_and_wait(topic, b"before")
        (log,) = settings.data_dir.glob("topics/*/0/*.log")
        before = log.read_bytes()
        disk.is_full = True
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
        await producer.client.send(node, _request(topic, b"x" * 10_000))
        assert log.read_bytes() == before
        disk.is_full = False


async def test_topics_and_commits_are_refused_while_the_disk_is_full(
    settings: BrokerSettings, disk: FailingDisk, clients: Any
) -> None:
    async with EmbeddedBroker(settings, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        partition = TopicPartition(topic, 0)
        consumer = await clients.consumer(broker.bootstrap, group_id="g")
        consumer.assign([partition])
        disk.is_full = True
        with pytest.raises(KafkaError):
            await clients.topic(broker.bootstrap, "another")
        disk.is_full = False
        await consumer.commit({partition: OffsetAndMetadata(0, "kept")})
        await clients.topic(broker.bootstrap, "another")
    async with EmbeddedBroker(settings) as broker, clients:
        consumer = await clients.consumer(broker.bootstrap, group_id="g")
        assert await consumer.committed(partition) == 0
        assert {topic, "another"} <= await consumer.topics()


async def test_no_record_is_acknowledged_after_a_failed_sync(
    settings: BrokerSettings, disk: FailingDisk, clients: Any, tmp_path: Path
) -> None:
    always = BrokerSettings(data_dir=tmp_path / "data", port=0, fsync=FsyncPolicy.ALWAYS)
    async with EmbeddedBroker(always, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap)
        await producer.send_and_wait(topic, b"before")
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
        disk.cannot_sync = True
        answer = await producer.client.send(node, _request(topic, b"refused"))
        assert answer.topics[0][1][0][1] == STORAGE_ERROR
        disk.cannot_sync = False
        answer = await producer.client.send(node, _request(topic, b"refused too"))
        assert answer.topics[0][1][0][1] == STORAGE_ERROR, "a later sync proves nothing"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    unmount = ["umount", "-l", str(folder)]
    subprocess.run(unmount, check=True)


async def test_a_really_full_file_system_heals_once_there_is_space(
    child: Callable[..., Any], clients: Any, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    broker = child("--fsync", "never", folder=small_disk / "data")
    topic = await clients.topic(broker.bootstrap)
    producer = await clients.producer(
        broker.bootstrap, enable_idempotence=True, max_batch_size=60_000
    )

    async def produce() -> None:
        for number in range(30):
            await producer.send_and_wait(topic, b"%04d" % number + b"x" * 49_000)

    await producer.partitions_for(topic)
    producing = asyncio.create_task(produce())
    node = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
    probe = _request(topic, b"probe" * 10_000)
    code = 0
    while code == 0:
        code = (await producer.client.send(node, probe)).topics[0][1][0][1]
    assert code == STORAGE_ERROR
    ballast.unlink()
    await asyncio.wait_for(producing, 20)
    broker.kill()
    broker.start()
    values = await clients.read_all(broker.bootstrap, topic)
    numbers = [int(value[:4]) for value in values if not value.startswith(b"probe")]
    assert numbers == list(range(30))


async def test_a_journal_whose_sync_failed_is_written_anew_before_it_is_believed(
    settings: BrokerSettings, disk: FailingDisk, clients: Any, until: Any, tmp_path: Path
) -> None:
    always = BrokerSettings(
        data_dir=tmp_path / "data", port=0, fsync=FsyncPolicy.ALWAYS, fsync_interval_ms=100
    )
    async with EmbeddedBroker(always, disk=disk) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        partition = TopicPartition(topic, 0)
        consumer = await clients.consumer(broker.bootstrap, group_id="g")
        consumer.assign([partition])
        disk.cannot_sync = True
        with pytest.raises(KafkaError):
            await clients.topic(broker.bootstrap, "refused")
        journal = settings.data_dir / "journal"
        before = journal.stat().st_ino
        disk.cannot_sync = False
        await consumer.commit({partition: OffsetAndMetadata(3, "kept")})
        assert journal.stat().st_ino != before, "a later sync of the same file proves nothing"
