"""Retention removes whole segments from the front; DeleteRecords any prefix."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient

LONGEST_WAIT_MS = 10_000


@pytest.fixture
async def _checks_often(kafka: Any) -> None:
    admin = await kafka.admin()
    node = admin._client.cluster.brokers().pop().nodeId
    resource = ConfigResource(ConfigResourceType.BROKER, str(node))
    (answer,) = await admin.describe_configs([resource])
    configs = {row[0]: row[1] for row in answer.resources[0][4]}
    interval_ms = int(configs["log.retention.check.interval.ms"])
    if interval_ms > LONGEST_WAIT_MS:
        pytest.skip(f"this cluster checks retention every {interval_ms} ms")


async def _starts(kafka: Any, topic: str) -> int:
    consumer = await kafka.consumer()
    partition = TopicPartition(topic, 0)
    return int((await consumer.beginning_offsets([partition]))[partition])


@pytest.mark.usefixtures("_checks_often")
async def test_old_records_go_and_the_end_stays(kafka: Any) -> None:
    topic = await kafka.topic(retention_ms=1_000)
    producer = await kafka.producer()
    for _ in range(10):
        await producer.send_and_wait(topic, b"old", timestamp_ms=1_700_000_000_000)
    await kafka.until(lambda: _equals(_starts(kafka, topic), 10), seconds=40)
    metadata = await producer.send_and_wait(topic, b"new")
    assert metadata.offset == 10
    (record,) = await kafka.take(await kafka.consumer(topic), 1)
    assert record.value == b"new"


@pytest.mark.usefixtures("_checks_often")
async def test_bytes_beyond_the_limit_go(kafka: Any) -> None:
    segment = 1 << 20
    topic = await kafka.topic(retention_bytes=2 * segment, segment_bytes=segment)
    producer = await kafka.producer()
    for _ in range(12):
        await producer.send_and_wait(topic, b"x" * 500_000)
    await kafka.until(lambda: _at_least(_starts(kafka, topic), 6), seconds=40)
    start = await _starts(kafka, topic)
    records = await kafka.take(await kafka.consumer(topic), 12 - start)
    assert [record.offset for record in records] == list(range(start, 12))
    assert start <= 8, "what fits the limit is kept"


async def test_deleted_records_are_gone_at_once(kafka: Any) -> None:
    topic = await kafka.topic()
    producer = await kafka.producer()
    for index in range(10):
        await producer.send_and_wait(topic, b"%d" % index)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    partition = ConfluentPartition(topic, 0, 4)
    deleted = admin.delete_records([partition])[partition]
    assert (await asyncio.to_thread(deleted.result, 10)).low_watermark == 4
    assert await _starts(kafka, topic) == 4
    records = await kafka.take(await kafka.consumer(topic), 6)
    assert [int(record.value) for record in records] == [4, 5, 6, 7, 8, 9]


async def _equals(answer: Any, expected: int) -> bool:
    return bool(await answer == expected)


async def _at_least(answer: Any, expected: int) -> bool:
    return bool(await answer >= expected)
