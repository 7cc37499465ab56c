"""What a producer sends is what every consumer gets."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from confluent_kafka import Consumer, Message, Producer

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def _read(bootstrap: str, topic: str, count: int) -> list[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"read-{topic}",
            "auto.offset.reset": "earliest",
            "check.crcs": True,
        }
    )
    consumer.subscribe([topic])
    try:
        records: list[Message] = []
        deadline = time.monotonic() + 20
        while len(records) < count and time.monotonic() < deadline:
            records += [m for m in consumer.consume(count, timeout=0.2) if m.error() is None]
        return records
    finally:
        consumer.close()


async def test_key_headers_and_time_reach_the_other_library(kafka: Any) -> None:
    topic = await kafka.topic(retention_ms=-1)
    producer = await kafka.producer()
    headers = [("trace", b"\x00\x01"), ("empty", b""), ("trace", b"again")]
    await producer.send_and_wait(
        topic, b"value", key=b"key", headers=headers, timestamp_ms=1_700_000_000_123
    )
    await producer.send_and_wait(topic, None, key=b"deleted")
    await producer.send_and_wait(topic, b"", key=None)
    first, second, third = await asyncio.to_thread(_read, kafka.bootstrap, topic, 3)
    assert (first.key(), first.value(), first.headers()) == (b"key", b"value", headers)
    assert first.timestamp() == (1, 1_700_000_000_123)
    assert (second.key(), second.value()) == (b"deleted", None)
    assert (third.key(), third.value()) == (None, b"")


async def test_librdkafka_records_reach_aiokafka(kafka: Any) -> None:
    topic = await kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": "gzip"})
    producer.produce(topic, b"value", key=b"key", headers=[("h", b"x"), ("none", None)])
    producer.produce(topic, None, key=b"deleted")
    assert await asyncio.to_thread(producer.flush, 10) == 0
    first, second = await kafka.take(await kafka.consumer(topic), 2)
    assert (first.key, first.value, first.headers) == (
        b"key",
        b"value",
        (("h", b"x"), ("none", None)),
    )
    assert (second.key, second.value) == (b"deleted", None)


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_passes_through(kafka: Any, codec: str) -> None:
    topic = await kafka.topic(partitions=2)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "compression.type": codec, "linger.ms": 20}
    )
    sent = {f"{codec}-{index}".encode() * 30 for index in range(200)}
    for value in sent:
        producer.produce(topic, value)
    assert await asyncio.to_thread(producer.flush, 10) == 0
    read = await asyncio.to_thread(_read, kafka.bootstrap, topic, len(sent))
    assert {message.value() for message in read} == sent


async def test_order_and_offsets_within_a_partition_have_no_gaps(kafka: Any) -> None:
    topic = await kafka.topic(partitions=3)
    producer = await kafka.producer(linger_ms=2, enable_idempotence=True)
    sends = [
        await producer.send(topic, b"%d" % index, key=b"%d" % (index % 10))
        for index in range(1_000)
    ]
    metadata = await asyncio.gather(*sends)
    records = await kafka.take(await kafka.consumer(topic), 1_000)
    for partition in range(3):
        rows = [record for record in records if record.partition == partition]
        assert [row.offset for row in rows] == list(range(len(rows)))
        assert [int(row.value) for row in rows] == sorted(int(row.value) for row in rows)
    told = {(m.partition, m.offset): index for index, m in enumerate(metadata)}
    assert all(told[r.partition, r.offset] == int(r.value) for r in records)


@pytest.mark.parametrize("acks", [0, 1, "all"])
async def test_records_arrive_with_any_acks(kafka: Any, acks: object) -> None:
    topic = await kafka.topic()
    producer = await kafka.producer(acks=acks)
    for index in range(20):
        await producer.send_and_wait(topic, b"%d" % index)
    records = await kafka.take(await kafka.consumer(topic), 20)
    assert [int(record.value) for record in records] == list(range(20))


async def test_a_record_larger_than_the_fetch_size_is_still_read(kafka: Any) -> None:
    topic = await kafka.topic(max_message_bytes=16_000_000)
    producer = await kafka.producer(max_request_size=16_000_000, max_batch_size=16_000_000)
    values = [bytes([index]) * (5_000_000 * index) for index in (1, 3)]
    for value in values:
        await producer.send_and_wait(topic, value)
    consumer = await kafka.consumer(topic, max_partition_fetch_bytes=1_000, fetch_max_bytes=1_000)
    records = await kafka.take(consumer, 2)
    assert [record.value for record in records] == values


async def test_max_message_bytes_is_enforced(kafka: Any) -> None:
    topic = await kafka.topic(max_message_bytes=2_000)
    producer = await kafka.producer()
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_and_wait(topic, b"x" * 3_000)
    metadata = await producer.send_and_wait(topic, b"x" * 1_000)
    assert metadata.offset == 0


async def test_log_append_time_is_the_brokers(kafka: Any) -> None:
    topic = await kafka.topic(message_timestamp_type="LogAppendTime")
    producer = await kafka.producer(compression_type="gzip")
    before = time.time() * 1000
    metadata = await producer.send_and_wait(topic, b"value", timestamp_ms=1_000)
    (record,) = await kafka.take(await kafka.consumer(topic, check_crcs=True), 1)
    assert record.timestamp == metadata.timestamp
    assert record.timestamp_type == metadata.timestamp_type == 1
    assert abs(record.timestamp - before) < 30_000


async def test_a_fetch_below_or_above_the_log_is_out_of_range(kafka: Any) -> None:
    topic = await kafka.topic()
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"value")
    consumer = await kafka.consumer(auto_offset_reset="none")
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 5)
    with pytest.raises(Exception, match="OffsetOutOfRange"):
        await asyncio.wait_for(consumer.getone(), 10)


async def test_many_partitions_are_all_read_to_their_end(kafka: Any) -> None:
    topic = await kafka.topic(partitions=20)
    producer = await kafka.producer()
    for index in range(200):
        await producer.send_and_wait(topic, b"%d" % index, partition=index % 20)
    consumer = await kafka.consumer(topic)
    records = await kafka.take(consumer, 200)
    assert {int(record.value) for record in records} == set(range(200))
    partitions = [TopicPartition(topic, index) for index in range(20)]
    assert await consumer.beginning_offsets(partitions) == dict.fromkeys(partitions, 0)
    assert await consumer.end_offsets(partitions) == dict.fromkeys(partitions, 10)
