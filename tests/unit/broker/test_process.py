"""The broker as a process: how it starts, refuses to start, stops, and survives kill -9."""

import asyncio
import contextlib
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidemill.broker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def _assert_refused(ended: subprocess.CompletedProcess[str], reason: str) -> None:
    assert ended.returncode == 2
    assert ended.stdout == ""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert reason in lines[0]
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_refused_with_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = _run("--data-dir", str(tmp_path), "--port", port)
    _assert_refused(ended, "PORT_IN_USE")
    assert "--port" in ended.stderr


def test_a_second_broker_on_the_same_folder_is_refused(
    child: Callable[..., Any], tmp_path: Path
) -> None:
    child(folder=tmp_path / "data")
    ended = _run("--data-dir", str(tmp_path / "data"), "--port", "0")
    _assert_refused(ended, "DATA_DIR_IN_USE")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    ended = _run("--data-dir", str(tmp_path / "file" / "data"), "--port", "0")
    _assert_refused(ended, "DATA_DIR_UNUSABLE")


def test_an_address_others_can_reach_is_refused(tmp_path: Path) -> None:
    ended = _run("--data-dir", str(tmp_path), "--port", "0", "--host", "0.0.0.0")
    _assert_refused(ended, "HOST_NOT_LOOPBACK")


def test_a_damaged_journal_is_refused_and_left_alone(
    child: Callable[..., Any], tmp_path: Path
) -> None:
    broker = child("--auto-create-topics")
    broker.stop()
    journal = tmp_path / "data" / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"00000000 {}\n" + b"".join(lines))
    before = journal.read_bytes()
    ended = _run("--data-dir", str(tmp_path / "data"), "--port", "0")
    _assert_refused(ended, "JOURNAL_DAMAGED")
    assert journal.read_bytes() == before


async def test_sigterm_stops_cleanly_with_clients_connected(
    child: Callable[..., Any], clients: Any
) -> None:
    broker = child()
    topic = await clients.topic(broker.bootstrap)
    consumer = await clients.consumer(broker.bootstrap, topic, group_id="g")
    producer = await clients.producer(broker.bootstrap)
    await producer.send_and_wait(topic, b"value")
    waiting = asyncio.create_task(consumer.getmany(timeout_ms=5_000))
    assert await asyncio.to_thread(broker.stop) == 0
    waiting.cancel()
    broker.start()
    assert await clients.read_all(broker.bootstrap, topic) == [b"value"]


async def test_a_restart_keeps_topics_settings_offsets_and_the_group_itself(
    child: Callable[..., Any], clients: Any, until: Any
) -> None:
    broker = child()
    topic = await clients.topic(broker.bootstrap, partitions=2, retention_ms=7_200_000)
    producer = await clients.producer(broker.bootstrap)
    for index in range(10):
        await producer.send_and_wait(topic, b"%d" % index, partition=index % 2)
    consumer = await clients.consumer(broker.bootstrap, topic, group_id="g")
    await until(lambda: len(consumer.assignment()) == 2)
    partition = TopicPartition(topic, 0)
    await consumer.commit({partition: OffsetAndMetadata(3, "here")})
    generation = consumer._coordinator.generation
    broker.kill()
    broker.start()
    await until(lambda: _can_commit(consumer, {partition: OffsetAndMetadata(4, "there")}))
    assert consumer._coordinator.generation == generation, "no one had to join again"
    assert await consumer.committed(partition) == 4
    assert (await producer.send_and_wait(topic, b"more", partition=0)).offset == 5


async def _can_commit(consumer: Any, offsets: Any) -> bool:
    try:
        await consumer.commit(offsets)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("fsync", ["never", "always"])
async def test_kill_9_under_load_loses_no_acked_record_and_doubles_none(
    child: Callable[..., Any], clients: Any, until: Any, fsync: str
) -> None:
    broker = child("--fsync", fsync)
    topic = await clients.topic(broker.bootstrap, partitions=2, internal_segment_bytes=20_000)
    acked: set[bytes] = set()
    sent = 0
    producers = [
        await clients.producer(
            broker.bootstrap, enable_idempotence=True, linger_ms=linger, request_timeout_ms=5_000
        )
        for linger in (0, 5)
    ]

    async def produce(producer: Any) -> None:
        nonlocal sent
        while True:
            sent += 1
            value = b"%d" % sent
            await producer.send_and_wait(topic, value, key=b"%d" % (sent % 7))
            acked.add(value)

    tasks = [asyncio.create_task(produce(p)) for p in producers for _ in range(10)]
    for _ in range(3):
        target = len(acked) + random.randrange(100, 300)
        await until(lambda: len(acked) >= target)  # noqa: B023
        broker.kill()
        broker.start()
    target = len(acked) + 50
    await until(lambda: len(acked) >= target)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    for producer in producers:
        await producer.flush()
    values = await clients.read_all(broker.bootstrap, topic)
    assert acked <= set(values), "an acknowledged record is gone"
    assert len(values) == len(set(values)), "a record is there twice"
