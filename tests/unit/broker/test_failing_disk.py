"""The kernel answers EIO to a real broker process: what it acknowledged is there, and once."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.unit.broker.conftest import Child

RECORDS = 200
SEND_MS = 4_000


class Struck(Child):
    """Some calls of each of its threads fail."""

    def __init__(self, folder: Path, call: str, when: str) -> None:
        super().__init__(folder, "--fsync", "always")
        inject = f"inject={call}:error=EIO:when={when}"
        options = ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        self.prefix = ("strace", *options)

    def kill(self) -> int:
        """strace alone would leave its process running."""
        if not self.prefix:
            return super().kill()
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        return self._wait()


@pytest.fixture
def struck(tmp_path: Path) -> Iterator[Any]:
    started: list[Child] = []

    def start(call: str, when: str) -> Child:
        started.append(Struck(tmp_path / "data", call, when).start())
        return started[-1]

    yield start
    for child in started:
        if child.process is not None:
            child.kill()


def send(bootstrap: str, first: int) -> list[bytes]:
    """What was acknowledged, in order; ends with the first record that is not, in time."""
    acknowledged: list[bytes] = []

    def note(error: KafkaError | None, message: Message) -> None:
        if error is None:
            acknowledged.append(message.value() or b"")

    limit = {"message.timeout.ms": SEND_MS, "linger.ms": 0, "enable.idempotence": True}
    producer = Producer({"bootstrap.servers": bootstrap, **limit})
    for number in range(RECORDS):
        producer.produce("topic", b"%d" % (first + number), on_delivery=note)
        producer.flush(SEND_MS / 1_000 * 2)
        if len(acknowledged) <= number:
            break
    return acknowledged


@pytest.mark.timeout(120)
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize(("call", "goes_on"), [("pwritev", True), ("fdatasync", False)])
async def test_what_a_broker_on_a_failing_disk_acknowledged_is_there(
    struck: Any, clients: Any, call: str, goes_on: bool
) -> None:
    """It stands failing writes by itself; after a failing sync it waits for a restart."""
    broker = struck(call, "40..44")
    async with clients:
        await clients.topic(broker.bootstrap)
        acknowledged = await asyncio.to_thread(send, broker.bootstrap, 0)
    assert (len(acknowledged) == RECORDS) is goes_on
    assert len(acknowledged) > 20
    broker.kill()
    broker.prefix = ()
    broker.start()
    async with clients:
        acknowledged += await asyncio.to_thread(send, broker.bootstrap, RECORDS)
        there = await clients.read_all(broker.bootstrap, "topic")
    assert acknowledged[-1] == b"%d" % (2 * RECORDS - 1)
    assert set(acknowledged) <= set(there)
    assert len(there) == len(set(there))
