"""Bytes on the wire: versions, garbage, and who is disturbed by whom."""

import asyncio
import contextlib
import struct
from typing import Any

import pytest
from aiokafka import TopicPartition


async def _open(kafka: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = kafka.bootstrap.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


def _frame(api_key: int, version: int, correlation_id: int, body: bytes = b"") -> bytes:
    header = struct.pack(">hhih", api_key, version, correlation_id, 1) + b"x"
    return struct.pack(">i", len(header + body)) + header + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(10):
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        frame = await reader.readexactly(length)
    return struct.unpack_from(">i", frame)[0], frame[4:]


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_an_unknown_version_of_api_versions_is_answered_in_version_0(kafka: Any) -> None:
    reader, writer = await _open(kafka)
    writer.write(_frame(18, 99, 7, b"\x00"))
    correlation_id, body = await _answer(reader)
    error, count = struct.unpack_from(">hi", body)
    assert (correlation_id, error) == (7, 35)
    assert len(body) >= 6 + 6 * count
    await _close(writer)


async def test_requests_sent_at_once_are_answered_in_order(kafka: Any) -> None:
    reader, writer = await _open(kafka)
    writer.write(b"".join(_frame(18, 0, number) for number in range(50)))
    answers = [await _answer(reader) for _ in range(50)]
    assert [number for number, _ in answers] == list(range(50))
    await _close(writer)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        struct.pack(">i", -5) + bytes(32),
        struct.pack(">i", 2**31 - 1) + bytes(32),
        struct.pack(">i", 4) + bytes(4),
        _frame(9_999, 0, 1),
        _frame(3, 5, 1, b"\x7f\xff\xff\xff"),
        _frame(0, 7, 1, b"\xff" * 40),
    ],
    ids=["http", "tls", "negative", "huge", "short", "no-such-api", "array-bomb", "noise"],
)
async def test_garbage_ends_its_own_connection_and_no_other(kafka: Any, garbage: bytes) -> None:
    producer = await kafka.producer()
    topic = await kafka.topic()
    reader, writer = await _open(kafka)
    writer.write(garbage)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    await _close(writer)
    assert (await producer.send_and_wait(topic, b"value")).offset == 0


async def test_a_client_that_does_not_read_holds_up_nobody(kafka: Any) -> None:
    topic = await kafka.topic(max_message_bytes=2_000_000)
    producer = await kafka.producer(max_request_size=2_000_000, max_batch_size=2_000_000)
    for _ in range(8):
        await producer.send_and_wait(topic, b"x" * 1_000_000)
    name = struct.pack(">h", len(topic)) + topic.encode()
    row = struct.pack(">iqi", 0, 0, 1 << 30)
    body = struct.pack(">iiiib", -1, 0, 1, 1 << 30, 0)
    body += struct.pack(">i", 1) + name + struct.pack(">i", 1) + row
    reader, writer = await _open(kafka)
    for number in range(20):
        writer.write(_frame(1, 4, number, body))
    await writer.drain()
    consumer = await kafka.consumer(topic)
    assert len(await kafka.take(consumer, 8)) == 8
    correlation_id, _ = await _answer(reader)
    assert correlation_id == 0
    await _close(writer)


async def test_a_waiting_fetch_is_answered_when_a_record_comes(kafka: Any) -> None:
    topic = await kafka.topic()
    consumer = await kafka.consumer(fetch_max_wait_ms=20_000)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    waiting = asyncio.create_task(consumer.getone())
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"value")
    record = await asyncio.wait_for(waiting, 5)
    assert record.value == b"value"


async def test_a_waiting_fetch_is_answered_when_its_time_is_up(kafka: Any) -> None:
    topic = await kafka.topic()
    consumer = await kafka.consumer(topic, fetch_max_wait_ms=100)
    assert await consumer.getmany(timeout_ms=500) == {}
