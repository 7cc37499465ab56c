"""Compacted topics: the newest record of each key stays where it was, tombstones go in time."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

# Apache Kafka looks for work every 15 seconds unless told otherwise.
LONGEST_WAIT = 75
INVALID_RECORD, OUT_OF_ORDER = 87, 45
START = 1_700_000_000_000


async def _topic(kafka: Any, **configs: object) -> str:
    """A topic that is compacted as soon as a segment is full, which takes a moment."""
    wanted = {
        "cleanup_policy": "compact",
        "segment_ms": 200,
        "min_cleanable_dirty_ratio": 0.001,
        "delete_retention_ms": 300,
        **configs,
    }
    return str(await kafka.topic(**wanted))


async def _all(kafka: Any, topic: str, **settings: Any) -> list[ConsumerRecord]:
    """Every record up to the present end, but for those that only fill segments."""
    partition = TopicPartition(topic, 0)
    consumer = await kafka.consumer(**settings)
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    records: list[ConsumerRecord] = []
    async with asyncio.timeout(20):
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
    await consumer.stop()
    return [record for record in records if record.key != b"filler"]


async def _until_left(
    kafka: Any, topic: str, expected: list[tuple[int, bytes, bytes | None]], **settings: Any
) -> None:
    """Writes on, so that segments fill, until just these (offset, key, value) are left."""
    producer = await kafka.producer()

    async def is_so() -> bool:
        await producer.send_and_wait(topic, b"x", key=b"filler")
        records = await _all(kafka, topic, **settings)
        await asyncio.sleep(0.2)
        return [(r.offset, r.key, r.value) for r in records] == expected

    await kafka.until(is_so, seconds=LONGEST_WAIT)


async def test_the_newest_record_of_each_key_stays_at_its_offset(kafka: Any) -> None:
    topic = await _topic(kafka)
    producer = await kafka.producer()
    for number in range(20):
        await producer.send_and_wait(topic, b"%d" % number, key=b"key-%d" % (number % 4))
    expected = [(n, b"key-%d" % (n % 4), b"%d" % n) for n in range(16, 20)]
    await _until_left(kafka, topic, expected)


async def test_reading_from_an_offset_that_is_gone_gives_the_next_one(kafka: Any) -> None:
    topic = await _topic(kafka)
    partition = TopicPartition(topic, 0)
    producer = await kafka.producer()
    for number, key in enumerate([b"a", b"b", b"a", b"a", b"c"]):
        time_ms = START + number * 1_000
        await producer.send_and_wait(topic, b"%d" % number, key=key, timestamp_ms=time_ms)
    await _until_left(kafka, topic, [(1, b"b", b"1"), (3, b"a", b"3"), (4, b"c", b"4")])
    consumer = await kafka.consumer()
    consumer.assign([partition])
    for start, found in [(0, 1), (1, 1), (2, 3), (3, 3)]:
        consumer.seek(partition, start)
        assert (await kafka.take(consumer, 1))[0].offset == found
    assert (await consumer.beginning_offsets([partition]))[partition] == 0
    times = await consumer.offsets_for_times({partition: START + 1_500})
    assert (times[partition].offset, times[partition].timestamp) == (3, START + 3_000)


async def test_a_deleted_key_goes_with_its_tombstone(kafka: Any) -> None:
    topic = await _topic(kafka)
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"1", key=b"gone")
    await producer.send_and_wait(topic, b"2", key=b"kept")
    await producer.send_and_wait(topic, None, key=b"gone")
    await _until_left(kafka, topic, [(1, b"kept", b"2")])


async def test_a_tombstone_stays_for_as_long_as_it_is_to(kafka: Any) -> None:
    topic = await _topic(kafka, delete_retention_ms=3_600_000)
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"1", key=b"gone")
    await producer.send_and_wait(topic, None, key=b"gone")
    await _until_left(kafka, topic, [(1, b"gone", None)])


async def test_a_record_without_a_key_is_refused(kafka: Any) -> None:
    topic = await _topic(kafka)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    errors: list[Any] = []
    producer.produce(topic, b"value", on_delivery=lambda error, _: errors.append(error))
    await asyncio.to_thread(producer.flush, 20)
    assert errors[0].code() == KafkaError.INVALID_RECORD
    aiokafka = await kafka.producer()
    assert (await aiokafka.send_and_wait(topic, b"value", key=b"")).offset == 0


async def test_compacting_and_deleting_go_together(kafka: Any) -> None:
    topic = await _topic(kafka, cleanup_policy="compact,delete", retention_ms=3_600_000)
    producer = await kafka.producer()
    for number in range(3):
        await producer.send_and_wait(topic, b"%d" % number, key=b"new")
    await _until_left(kafka, topic, [(2, b"new", b"2")])


async def test_sequences_are_remembered_when_the_records_are_gone(kafka: Any) -> None:
    topic = await _topic(kafka)
    connection = await kafka.connection()
    producer_id = (await connection.send(InitProducerIdRequest(None, 1_000))).producer_id

    # Apache Kafka goes by the time of its last record when it forgets a producer.
    now_ms = int(time.time() * 1000)

    async def send(sequence: int) -> int:
        builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, 0, sequence, 10_000)
        builder.append(0, now_ms, b"key", b"%d" % sequence, [])
        request = ProduceRequest(None, -1, 5_000, [(topic, [(0, bytes(builder.build()))])])
        return int((await connection.send(request)).topics[0][1][0][1])

    assert [await send(sequence) for sequence in range(3)] == [0, 0, 0]
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"newer", key=b"key")
    await _until_left(kafka, topic, [(3, b"key", b"newer")])
    assert await send(7) == OUT_OF_ORDER
    assert await send(3) == 0


async def test_an_aborted_record_hides_no_committed_one(kafka: Any) -> None:
    topic = await _topic(kafka)
    producer = await kafka.producer()
    for number in range(3):
        await producer.send_and_wait(topic, b"%d" % number, key=b"key")
    transactional = await kafka.producer(transactional_id=kafka.name("transactional"))
    await transactional.begin_transaction()
    await transactional.send_and_wait(topic, b"aborted", key=b"key")
    await transactional.abort_transaction()
    expected = [(2, b"key", b"2")]
    await _until_left(kafka, topic, expected, isolation_level="read_committed")


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_librdkafka_reads_every_key_of_any_codec(kafka: Any, codec: str) -> None:
    topic = await _topic(kafka)
    plain = await kafka.producer()
    for _ in range(2):
        await plain.send_and_wait(topic, b"old", key=b"plain")
    settings = {"bootstrap.servers": kafka.bootstrap, "compression.type": codec, "linger.ms": 50}
    producer = Producer(settings)
    for number in range(60):
        producer.produce(topic, b"%d" % number * 20, key=b"%d" % (number % 20))
    await asyncio.to_thread(producer.flush, 20)

    async def is_compacted() -> bool:
        await plain.send_and_wait(topic, b"x", key=b"filler")
        await asyncio.sleep(0.2)
        records = await asyncio.to_thread(_read, kafka.bootstrap, topic, 62)
        newest.update(records)
        return [key for key, _ in records].count(b"plain") == 1

    newest: dict[bytes, bytes] = {}
    await kafka.until(is_compacted, seconds=LONGEST_WAIT)
    del newest[b"plain"]
    assert newest == {b"%d" % (n % 20): b"%d" % n * 20 for n in range(40, 60)}


def _read(bootstrap: str, topic: str, end: int) -> list[tuple[bytes, bytes]]:
    """(key, value) of what is left below an offset, by librdkafka."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    consumer.assign([ConfluentPartition(topic, 0, 0)])
    rows: list[tuple[bytes, bytes]] = []
    try:
        while True:
            message = consumer.poll(20)
            assert message is not None, "no record came in time"
            if message.error():
                raise KafkaException(message.error())
            if message.offset() >= end:
                return rows
            rows.append((message.key(), message.value()))
    finally:
        consumer.close()


async def test_settings_are_described_changed_and_checked(kafka: Any) -> None:
    topic = await kafka.topic()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    async def change(**settings: str) -> None:
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        future = admin.incremental_alter_configs([resource])[resource]
        await asyncio.to_thread(future.result, 20)

    await change(cleanup_policy="compact", min_cleanable_dirty_ratio="0.2", segment_ms="200")
    resource = ConfigResource(ResourceType.TOPIC, topic)
    described = await asyncio.to_thread(admin.describe_configs([resource])[resource].result, 20)
    assert described["cleanup.policy"].value == "compact"
    assert float(described["min.cleanable.dirty.ratio"].value) == 0.2
    assert described["delete.retention.ms"].value == "86400000"
    for wrong in (
        {"cleanup_policy": "shred"},
        {"min_cleanable_dirty_ratio": "2"},
        {"delete_retention_ms": "-5"},
        {"min_compaction_lag_ms": "10", "max_compaction_lag_ms": "5"},
    ):
        with pytest.raises(KafkaException) as refused:
            await change(**wrong)
        assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    producer = await kafka.producer()
    for number in range(3):
        await producer.send_and_wait(topic, b"%d" % number, key=b"a")
    await _until_left(kafka, topic, [(2, b"a", b"2")])
