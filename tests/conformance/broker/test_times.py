"""Offsets by time: the first record that is not older."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

START = 1_700_000_000_000


async def _find(consumer: Any, partition: TopicPartition, time_ms: int) -> tuple[int, int] | None:
    found = (await consumer.offsets_for_times({partition: time_ms}))[partition]
    return None if found is None else (found.offset, found.timestamp)


@pytest.mark.parametrize("together", [False, True], ids=["batch-per-record", "one-batch"])
@pytest.mark.parametrize("codec", [None, "gzip"])
async def test_the_exact_record_is_found(kafka: Any, together: bool, codec: str | None) -> None:
    topic = await kafka.topic(retention_ms=-1)
    producer = await kafka.producer(linger_ms=200 if together else 0, compression_type=codec)
    sends = []
    for index in range(10):
        send = await producer.send(topic, b"x" * 50, timestamp_ms=START + 1_000 * index)
        if not together:
            await send
        sends.append(send)
    await asyncio.gather(*sends)
    consumer, partition = await kafka.consumer(), TopicPartition(topic, 0)
    consumer.assign([partition])
    assert await _find(consumer, partition, START) == (0, START)
    assert await _find(consumer, partition, START + 3_000) == (3, START + 3_000)
    assert await _find(consumer, partition, START + 3_001) == (4, START + 4_000)
    assert await _find(consumer, partition, 0) == (0, START)
    assert await _find(consumer, partition, START + 9_001) is None


async def test_times_out_of_order_give_the_first_offset_that_is_not_older(kafka: Any) -> None:
    topic = await kafka.topic(retention_ms=-1)
    producer = await kafka.producer()
    for offset_ms in (5_000, 1_000, 9_000, 2_000):
        await producer.send_and_wait(topic, b"x", timestamp_ms=START + offset_ms)
    consumer, partition = await kafka.consumer(), TopicPartition(topic, 0)
    consumer.assign([partition])
    assert await _find(consumer, partition, START + 1_000) == (0, START + 5_000)
    assert await _find(consumer, partition, START + 6_000) == (2, START + 9_000)


async def test_an_empty_partition_has_no_time(kafka: Any) -> None:
    topic = await kafka.topic(retention_ms=-1)
    consumer, partition = await kafka.consumer(), TopicPartition(topic, 0)
    consumer.assign([partition])
    assert await _find(consumer, partition, 0) is None


async def test_the_time_of_log_append_is_searchable(kafka: Any) -> None:
    topic = await kafka.topic(message_timestamp_type="LogAppendTime")
    producer = await kafka.producer()
    sent = [await producer.send_and_wait(topic, b"x", timestamp_ms=1) for _ in range(3)]
    consumer, partition = await kafka.consumer(), TopicPartition(topic, 0)
    consumer.assign([partition])
    found = await _find(consumer, partition, sent[0].timestamp)
    assert found == (0, sent[0].timestamp)
    assert await _find(consumer, partition, sent[2].timestamp + 1) is None


async def test_librdkafka_finds_first_last_and_latest_in_time(kafka: Any) -> None:
    topic = await kafka.topic(retention_ms=-1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for offset_ms in (5_000, 9_000, 2_000):
        producer.produce(topic, b"x", timestamp=START + offset_ms)
        producer.flush(10)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    partition = ConfluentPartition(topic, 0)
    specs = [OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.max_timestamp()]
    found = [
        await asyncio.to_thread(admin.list_offsets({partition: spec})[partition].result, 10)
        for spec in specs
    ]
    assert [row.offset for row in found] == [0, 3, 1]
    assert found[2].timestamp == START + 9_000
