"""Idempotent producers: a batch sent again is not appended again, a gap is refused."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

UNKNOWN_TOPIC, NOT_LEADER = 3, 6
OK, CORRUPT, OUT_OF_ORDER, OLD_EPOCH, INVALID_RECORD = 0, 2, 45, 47, 87
Send = Callable[..., Awaitable[tuple[int, int]]]


def _batch(producer_id: int, epoch: int, sequence: int, count: int = 1) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, epoch, sequence, 100_000)
    for index in range(count):
        builder.append(index, int(time.time() * 1000), None, b"%d" % (sequence + index), [])
    return bytearray(builder.build())


@pytest.fixture
async def topic(kafka: Any) -> str:
    return str(await kafka.topic())


@pytest.fixture
async def producer_id(kafka: Any) -> int:
    connection = await kafka.connection()
    answer = await connection.send(InitProducerIdRequest(None, 1_000))
    assert answer.error_code == OK
    return int(answer.producer_id)


@pytest.fixture
async def send(kafka: Any, topic: str) -> Send:
    connection = await kafka.connection()

    async def send_batch(batch: bytes | bytearray) -> tuple[int, int]:
        request = ProduceRequest(None, -1, 5_000, [(topic, [(0, batch)])])
        row: Any = (0, NOT_LEADER, -1)

        async def has_leader() -> bool:
            nonlocal row
            row = (await connection.send(request)).topics[0][1][0]
            return int(row[1]) not in (NOT_LEADER, UNKNOWN_TOPIC)

        await kafka.until(has_leader)
        return int(row[1]), int(row[2])

    return send_batch


async def _values(kafka: Any, topic: str, count: int) -> list[bytes]:
    consumer = await kafka.consumer(topic)
    return [record.value for record in await kafka.take(consumer, count)]


async def test_producer_ids_are_never_given_twice(kafka: Any) -> None:
    connection = await kafka.connection()
    answers = [await connection.send(InitProducerIdRequest(None, 1_000)) for _ in range(50)]
    assert len({answer.producer_id for answer in answers}) == 50
    assert {answer.producer_epoch for answer in answers} == {0}


async def test_a_repeated_batch_gets_its_first_offset_and_is_not_appended(
    kafka: Any, topic: str, producer_id: int, send: Send
) -> None:
    assert await send(_batch(producer_id, 0, 0, count=3)) == (OK, 0)
    for _ in range(3):
        assert await send(_batch(producer_id, 0, 0, count=3)) == (OK, 0)
    assert await send(_batch(producer_id, 0, 3)) == (OK, 3)
    assert await _values(kafka, topic, 4) == [b"0", b"1", b"2", b"3"]


async def test_the_last_five_batches_are_remembered(producer_id: int, send: Send) -> None:
    for sequence in range(8):
        assert await send(_batch(producer_id, 0, sequence)) == (OK, sequence)
    for sequence in range(3, 8):
        assert await send(_batch(producer_id, 0, sequence)) == (OK, sequence)
    code, _ = await send(_batch(producer_id, 0, 0))
    assert code == OUT_OF_ORDER
    assert await send(_batch(producer_id, 0, 8)) == (OK, 8)


async def test_a_gap_is_refused_and_leaves_no_trace(
    kafka: Any, topic: str, producer_id: int, send: Send
) -> None:
    assert await send(_batch(producer_id, 0, 0)) == (OK, 0)
    assert (await send(_batch(producer_id, 0, 2)))[0] == OUT_OF_ORDER
    assert await send(_batch(producer_id, 0, 1)) == (OK, 1)
    assert await _values(kafka, topic, 2) == [b"0", b"1"]


async def test_an_older_epoch_is_fenced(producer_id: int, send: Send) -> None:
    assert await send(_batch(producer_id, 1, 0)) == (OK, 0)
    assert (await send(_batch(producer_id, 0, 0)))[0] == OLD_EPOCH
    assert (await send(_batch(producer_id, 2, 5)))[0] == OUT_OF_ORDER
    assert await send(_batch(producer_id, 2, 0)) == (OK, 1)


async def test_a_producer_unknown_to_the_partition_may_start_anywhere(
    producer_id: int, send: Send
) -> None:
    assert await send(_batch(producer_id, 0, 7)) == (OK, 0)
    assert (await send(_batch(producer_id, 0, 9)))[0] == OUT_OF_ORDER


async def test_sequences_wrap_around(producer_id: int, send: Send) -> None:
    last = 2**31 - 1
    assert await send(_batch(producer_id, 0, last)) == (OK, 0)
    assert await send(_batch(producer_id, 0, 0)) == (OK, 1)


async def test_a_flipped_bit_is_refused(producer_id: int, send: Send) -> None:
    batch = _batch(producer_id, 0, 0)
    batch[-1] ^= 1
    assert (await send(batch))[0] == CORRUPT
    assert await send(_batch(producer_id, 0, 0)) == (OK, 0)


async def test_two_batches_for_one_partition_are_refused(producer_id: int, send: Send) -> None:
    batches = _batch(producer_id, 0, 0) + _batch(producer_id, 0, 1)
    assert (await send(batches))[0] == INVALID_RECORD
