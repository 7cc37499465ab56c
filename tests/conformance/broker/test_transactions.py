"""Transactions, with both clients as producers and both as readers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AiokafkaError
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ConfluentPartition

from tests.conformance.broker.transactional import (
    AiokafkaTransactor,
    Fenced,
    LibrdkafkaTransactor,
    Transactor,
    read_by_aiokafka,
    read_by_librdkafka,
)

COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
Start = Callable[..., Awaitable[Transactor]]
Seen = Callable[..., Awaitable[list[bytes]]]


async def _aiokafka(kafka: Any, transactional_id: str, timeout_ms: int = 30_000) -> Transactor:
    producer = await kafka.producer(
        transactional_id=transactional_id, transaction_timeout_ms=timeout_ms
    )
    return AiokafkaTransactor(producer)


async def _librdkafka(
    kafka: Any, transactional_id: str, timeout_ms: int = 30_000
) -> LibrdkafkaTransactor:
    transactor = LibrdkafkaTransactor(kafka.bootstrap, transactional_id, timeout_ms)
    kafka.at_end(transactor.close)
    return await transactor.start()


@pytest.fixture(params=[_aiokafka, _librdkafka], ids=["aiokafka", "librdkafka"])
def start(request: pytest.FixtureRequest, kafka: Any) -> Start:
    """start(transactional_id): a producer that has been initialised."""

    async def start_one(transactional_id: str, **settings: Any) -> Transactor:
        transactor: Transactor = await request.param(kafka, transactional_id, **settings)
        return transactor

    return start_one


@pytest.fixture
def seen(kafka: Any) -> Seen:
    """seen(topic, isolation): what readers see up to the end; both clients must agree."""

    async def read(topic: str, isolation: str = COMMITTED, start: int = 0) -> list[bytes]:
        values = await read_by_aiokafka(kafka, topic, isolation, start)
        others = await read_by_librdkafka(kafka, topic, isolation, start)
        assert sorted(values) == sorted(others)
        return values

    return read


async def _committed(kafka: Any, group: str, topic: str, index: int = 0) -> int | None:
    consumer = await kafka.consumer(group_id=group)
    offset: int | None = await consumer.committed(TopicPartition(topic, index))
    return offset


async def test_committed_records_are_visible_in_order(kafka: Any, start: Start, seen: Seen) -> None:
    topic = await kafka.topic()
    producer = await start(kafka.name("id"))
    for number in range(3):
        await producer.begin()
        await producer.send(topic, b"%d-a" % number)
        await producer.send(topic, b"%d-b" % number)
        await producer.commit()
    expected = [b"0-a", b"0-b", b"1-a", b"1-b", b"2-a", b"2-b"]
    assert await seen(topic) == expected
    assert await seen(topic, UNCOMMITTED) == expected


async def test_aborted_records_are_visible_to_uncommitted_readers_alone(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topic = await kafka.topic()
    producer = await start(kafka.name("id"))
    for number in range(6):
        await producer.begin()
        await producer.send(topic, b"%d" % number)
        await (producer.abort() if number % 2 else producer.commit())
    assert await seen(topic) == [b"0", b"2", b"4"]
    assert await seen(topic, UNCOMMITTED) == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_an_open_transaction_holds_readers_before_it(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topic = await kafka.topic()
    plain = await kafka.producer()
    await plain.send_and_wait(topic, b"before")
    producer = await start(kafka.name("id"))
    await producer.begin()
    await producer.send(topic, b"open")
    await plain.send_and_wait(topic, b"behind")
    assert await seen(topic) == [b"before"]
    assert await seen(topic, UNCOMMITTED) == [b"before", b"open", b"behind"]
    reader = await kafka.consumer(topic, isolation_level=COMMITTED)
    assert [record.value for record in await kafka.take(reader, 1)] == [b"before"]
    waiting = asyncio.create_task(kafka.take(reader, 2))
    assert not (await asyncio.wait([waiting], timeout=0.5))[0], "it must wait for the outcome"
    await producer.commit()
    assert [record.value for record in await waiting] == [b"open", b"behind"]
    assert await seen(topic) == [b"before", b"open", b"behind"]


async def test_the_end_for_committed_readers_is_where_the_oldest_open_one_begins(
    kafka: Any, start: Start
) -> None:
    topic = await kafka.topic()
    first, second = await start(kafka.name("id")), await start(kafka.name("id"))
    partition = TopicPartition(topic, 0)
    committed = await kafka.consumer(topic, isolation_level=COMMITTED)
    uncommitted = await kafka.consumer(topic, isolation_level=UNCOMMITTED)

    async def ends() -> tuple[int, int]:
        rows = [await reader.end_offsets([partition]) for reader in (committed, uncommitted)]
        return rows[0][partition], rows[1][partition]

    await first.begin()
    await second.begin()
    await first.send(topic, b"first")
    await second.send(topic, b"second")
    assert await ends() == (0, 2)
    await second.commit()
    await kafka.until(lambda: _are(ends, (0, 3)))
    await first.abort()
    await kafka.until(lambda: _are(ends, (4, 4)))


async def _are(ends: Callable[[], Awaitable[tuple[int, int]]], expected: tuple[int, int]) -> bool:
    return await ends() == expected


async def test_a_time_inside_an_open_transaction_is_not_found(kafka: Any, start: Start) -> None:
    topic = await kafka.topic()
    producer = await start(kafka.name("id"))
    await producer.begin()
    await producer.send(topic, b"open")
    partition = TopicPartition(topic, 0)
    committed = await kafka.consumer(topic, isolation_level=COMMITTED)
    uncommitted = await kafka.consumer(topic, isolation_level=UNCOMMITTED)
    assert (await committed.offsets_for_times({partition: 1}))[partition] is None
    assert (await uncommitted.offsets_for_times({partition: 1}))[partition].offset == 0
    await producer.commit()
    found = (await committed.offsets_for_times({partition: 1}))[partition]
    assert found.offset == 0


async def test_a_transaction_spans_topics_and_partitions(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topics = [await kafka.topic(partitions=3), await kafka.topic(partitions=2)]
    producer = await start(kafka.name("id"))
    places = [(topics[0], 0), (topics[0], 1), (topics[0], 2), (topics[1], 0), (topics[1], 1)]
    for round_number, word in enumerate((b"kept", b"dropped", b"also kept")):
        await producer.begin()
        for topic, index in places:
            await producer.send(topic, word, index)
        assert word not in await seen(topics[round_number % 2]), "not before the commit"
        await (producer.abort() if word == b"dropped" else producer.commit())
    assert sorted(await seen(topics[0])) == [b"also kept"] * 3 + [b"kept"] * 3
    assert sorted(await seen(topics[1])) == [b"also kept"] * 2 + [b"kept"] * 2


async def test_plain_and_transactional_producers_share_a_partition(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topic = await kafka.topic()
    plain = await kafka.producer()
    idempotent = await kafka.producer(enable_idempotence=True)
    producer, other = await start(kafka.name("id")), await start(kafka.name("id"))
    await producer.begin()
    await other.begin()
    for number in range(4):
        await plain.send_and_wait(topic, b"plain-%d" % number)
        await producer.send(topic, b"committed-%d" % number)
        await idempotent.send_and_wait(topic, b"idempotent-%d" % number)
        await other.send(topic, b"aborted-%d" % number)
    await other.abort()
    await producer.commit()
    expected = [
        b"%s-%d" % (word, number)
        for number in range(4)
        for word in (b"plain", b"committed", b"idempotent")
    ]
    assert await seen(topic) == expected
    assert len(await seen(topic, UNCOMMITTED)) == 16


async def test_a_reader_that_begins_inside_an_aborted_transaction_skips_the_rest_of_it(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topic = await kafka.topic(segment_bytes=1 << 20)
    plain = await kafka.producer()
    producer = await start(kafka.name("id"))
    await producer.begin()
    for number in range(8):
        await producer.send(topic, b"%d" % number + b"x" * 300_000)
        await plain.send_and_wait(topic, b"plain-%d" % number)
    await producer.abort()
    for begin in (0, 1, 6, 7, 15, 16):
        expected = [b"plain-%d" % number for number in range(8) if 2 * number + 1 >= begin]
        assert await seen(topic, COMMITTED, begin) == expected


async def test_gaps_in_the_offsets_stall_no_consumer(kafka: Any, start: Start, seen: Seen) -> None:
    topic, group = await kafka.topic(), kafka.name("group")
    producer = await start(kafka.name("id"))
    reader = await kafka.consumer(topic, group_id=group, isolation_level=COMMITTED)
    for number in range(3):
        for word in (b"aborted", b"aborted", b"kept"):
            await producer.begin()
            await producer.send(topic, b"%s-%d" % (word, number))
            await (producer.abort() if word == b"aborted" else producer.commit())
        (record,) = await kafka.take(reader, 1)
        assert record.value == b"kept-%d" % number
        await reader.commit()
    for _ in range(3):  # Nothing but gaps up to the end.
        await producer.begin()
        await producer.send(topic, b"aborted")
        await producer.abort()
    partition = TopicPartition(topic, 0)
    # In Apache Kafka the last marker may follow the answer to EndTxn.
    idle = asyncio.create_task(reader.getone())
    await kafka.until(lambda: _is_at(reader, partition, 24))
    await producer.begin()
    await producer.send(topic, b"last")
    await producer.commit()
    assert (await idle).value == b"last"
    assert await seen(topic) == [b"kept-0", b"kept-1", b"kept-2", b"last"]


async def _is_at(reader: Any, partition: TopicPartition, offset: int) -> bool:
    return bool(await reader.position(partition) == offset)


async def test_offsets_take_effect_with_the_commit_alone(kafka: Any, start: Start) -> None:
    source, group = await kafka.topic(partitions=2), kafka.name("group")
    plain = await kafka.producer()
    for index in (0, 1):
        for _ in range(9):
            await plain.send_and_wait(source, b"value", partition=index)
    producer = await start(kafka.name("id"))
    await producer.begin()
    await producer.send_offsets({(source, 0): 3, (source, 1): 4}, group)
    assert await _committed(kafka, group, source) is None
    await producer.abort()
    assert await _committed(kafka, group, source) is None
    await producer.begin()
    await producer.send_offsets({(source, 0): 5}, group)
    await producer.send_offsets({(source, 0): 6, (source, 1): 7}, group)
    await producer.commit()
    await kafka.until(lambda: _has_committed(kafka, group, source, 6))
    assert await _committed(kafka, group, source, 1) == 7


async def _has_committed(kafka: Any, group: str, topic: str, offset: int) -> bool:
    return await _committed(kafka, group, topic) == offset


async def test_a_client_that_wants_stable_offsets_waits_for_the_outcome(
    kafka: Any, start: Start
) -> None:
    source, group = await kafka.topic(), kafka.name("group")
    plain = await kafka.producer()
    for _ in range(3):
        await plain.send_and_wait(source, b"value")
    producer = await start(kafka.name("id"))
    await producer.begin()
    await producer.send_offsets({(source, 0): 2}, group)
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": group}
    consumer = Consumer({**settings, "isolation.level": COMMITTED})
    asked = [ConfluentPartition(source, 0)]
    with pytest.raises(KafkaException) as refused:
        await asyncio.to_thread(consumer.committed, asked, 1.5)
    code = refused.value.args[0].code()
    assert code in (KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT)
    await producer.commit()
    (found,) = await asyncio.to_thread(consumer.committed, asked, 20)
    assert found.offset == 2
    await asyncio.to_thread(consumer.close)


async def test_consume_transform_produce_has_each_effect_once(
    kafka: Any, start: Start, seen: Seen
) -> None:
    source, target, group = await kafka.topic(), await kafka.topic(), kafka.name("group")
    plain = await kafka.producer()
    for number in range(12):
        await plain.send_and_wait(source, b"%d" % number)
    producer = await start(kafka.name("id"))
    attempts = 0
    while (done := await _committed(kafka, group, source) or 0) < 12:
        reader = await kafka.consumer(isolation_level=COMMITTED)
        reader.assign([TopicPartition(source, 0)])
        reader.seek(TopicPartition(source, 0), done)
        records = (await kafka.take(reader, min(4, 12 - done)))[:4]
        await producer.begin()
        for record in records:
            await producer.send(target, b"made of " + record.value)
        await producer.send_offsets({(source, 0): records[-1].offset + 1}, group)
        attempts += 1
        await (producer.commit() if attempts % 2 == 0 else producer.abort())
        if attempts % 2 == 0:
            await kafka.until(lambda: _has_committed(kafka, group, source, done + 4))
    assert await seen(target) == [b"made of %d" % number for number in range(12)]
    assert attempts == 6


async def test_a_second_start_fences_the_first_and_ends_its_transaction(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topic, transactional_id = await kafka.topic(), kafka.name("id")
    zombie = await start(transactional_id)
    await zombie.begin()
    await zombie.send(topic, b"of the zombie")
    heir = await start(transactional_id)
    await heir.begin()
    await heir.send(topic, b"of the heir")
    with pytest.raises(Fenced):
        await zombie.send(topic, b"too late")
    await heir.commit()
    assert await seen(topic) == [b"of the heir"]


async def test_a_fenced_producer_can_not_commit(kafka: Any, start: Start, seen: Seen) -> None:
    topic, transactional_id = await kafka.topic(), kafka.name("id")
    zombie = await start(transactional_id)
    await zombie.begin()
    await zombie.send(topic, b"of the zombie")
    await start(transactional_id)
    with pytest.raises(Fenced):
        await zombie.commit()
    assert await seen(topic) == []


async def test_a_transaction_left_alone_is_aborted_and_its_producer_fenced(
    kafka: Any, start: Start, seen: Seen
) -> None:
    topic = await kafka.topic()
    producer = await start(kafka.name("id"), timeout_ms=1_000)
    await producer.begin()
    await producer.send(topic, b"left alone")
    plain = await kafka.producer()
    await plain.send_and_wait(topic, b"behind")
    reader = await kafka.consumer(topic, isolation_level=COMMITTED)
    (record,) = await kafka.take(reader, 1)
    assert record.value == b"behind"
    with pytest.raises(Fenced):
        await producer.commit()
    assert await seen(topic) == [b"behind"]


async def test_a_member_of_an_earlier_generation_can_not_commit_by_transaction(
    kafka: Any, seen: Seen
) -> None:
    source, target, group = await kafka.topic(), await kafka.topic(), kafka.name("group")
    plain = await kafka.producer()
    await plain.send_and_wait(source, b"value")
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": group}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([source])
    message = await asyncio.to_thread(consumer.poll, 30)
    assert message is not None
    assert message.error() is None
    metadata = consumer.consumer_group_metadata()
    await asyncio.to_thread(consumer.close)
    producer = await _librdkafka(kafka, kafka.name("id"))
    await producer.begin()
    await producer.send(target, b"by one that has left")
    with pytest.raises(KafkaException) as refused:
        await producer.send_offsets_of({(source, 0): 1}, metadata)
    error = refused.value.args[0]
    assert error.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION)
    assert error.txn_requires_abort()
    await producer.abort()
    assert await seen(target) == []
    assert await _committed(kafka, group, source) is None


@pytest.mark.parametrize("timeout_ms", [0, 2_000_000_000])
async def test_a_timeout_out_of_bounds_is_refused(kafka: Any, timeout_ms: int) -> None:
    with pytest.raises(AiokafkaError) as refused:
        await kafka.producer(transactional_id=kafka.name("id"), transaction_timeout_ms=timeout_ms)
    assert type(refused.value).__name__ == "InvalidTransactionTimeout"
