"""A service process that is killed or stopped under load loses nothing and doubles nothing."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.core.parts import recording
from tidemill.bus.admin import create_topics
from tidemill.runtime import running

ROOT = Path(__file__).parents[3]


class Child:
    """The service in a process of its own."""

    def __init__(self, settings: Any, pause: float = 0.0) -> None:
        self.settings = settings
        self.pause = pause
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        place = [str(self.settings.home), str(self.settings.port_base), self.settings.kafka]
        command = [sys.executable, "-m", "tests.integration.core.child", *place, str(self.pause)]
        with (self.settings.home.parent / "child.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stderr=log, stdout=log, env=dict(os.environ)
            )

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    async def wait(self) -> int:
        """In a thread: the broker that the child says goodbye to runs on this loop."""
        assert self.process
        return await asyncio.to_thread(self.process.wait, 30)

    def effects(self) -> list[str]:
        file = self.settings.home / "ingest" / "rows.db"
        if not file.exists():
            return []
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as rows:
            try:
                return [row[0] for row in rows.execute("SELECT event_id FROM effects")]
            except sqlite3.OperationalError:
                return []


@pytest.fixture
def child(outside: Any) -> Iterator[Child]:
    outside.settings.home.mkdir(parents=True, exist_ok=True)
    service = Child(outside.settings)
    yield service
    if service.process and service.process.poll() is None:
        service.process.kill()
        service.process.wait()


async def send_many(outside: Any, count: int) -> list[str]:
    ids = [f"event-{number}" for number in range(count)]
    for number, event_id in enumerate(ids):
        await outside.submit(f"doc-{number % 17}", event_id=event_id)
    return ids


def have(child: Child, count: int) -> Callable[[], Any]:
    async def enough() -> bool:
        return len(set(await asyncio.to_thread(child.effects))) >= count

    return enough


async def published_ids(outside: Any) -> list[str]:
    records = await outside.read("documents.chunked.v1")
    return [dict(record.headers)["ce_id"].decode() for record in records]


@pytest.mark.timeout(180)
async def test_kills_at_random_moments_lose_and_double_nothing(
    outside: Any, child: Child, eventually: Any
) -> None:
    seeded = random.Random(7)
    child.start()
    sending = asyncio.create_task(send_many(outside, 300))
    for goal in (40, 150):
        await eventually(have(child, goal), 60)
        await asyncio.sleep(seeded.uniform(0, 0.05))
        child.signal(signal.SIGKILL)
        await child.wait()
        child.start()
    ids = await sending
    await eventually(have(child, len(ids)), 90)
    child.signal(signal.SIGTERM)
    assert await child.wait() == 0
    assert sorted(child.effects()) == sorted(ids)
    # The relay may publish an event twice after a kill, but always under the same id.
    assert len(set(await published_ids(outside))) == len(ids)
    assert await outside.read("documents.submitted.v1.dlq") == []


@pytest.mark.timeout(180)
async def test_sigterm_under_load_loses_and_doubles_nothing(
    outside: Any, child: Child, eventually: Any
) -> None:
    child.start()
    sending = asyncio.create_task(send_many(outside, 300))
    for goal in (30, 120):
        await eventually(have(child, goal), 60)
        child.signal(signal.SIGTERM)
        if goal == 120:
            child.signal(signal.SIGTERM)
        assert await child.wait() == 0
        child.start()
    ids = await sending
    await eventually(have(child, len(ids)), 90)
    child.signal(signal.SIGTERM)
    assert await child.wait() == 0
    assert sorted(child.effects()) == sorted(ids)
    published = await published_ids(outside)
    assert len(published) == len(set(published)) == len(ids)


async def test_a_kill_inside_a_delivery_leads_to_one_effect(
    outside: Any, child: Child, eventually: Any
) -> None:
    child.pause = 0.3
    child.start()
    await outside.submit("doc", event_id="one")
    await outside.submit("doc", event_id="two")
    await eventually(have(child, 1))
    child.signal(signal.SIGKILL)
    await child.wait()
    child.pause = 0.0
    child.start()
    await eventually(have(child, 2))
    assert child.effects() == ["one", "two"]


@pytest.mark.timeout(120)
async def test_services_and_broker_start_in_any_order(
    tmp_path: Path, start_broker: Any, mesh_settings: Any, run_service: Any, eventually: Any
) -> None:
    """The service comes first and serves; its health says so once the broker is there."""
    broker = start_broker()
    broker.stop()
    settings = mesh_settings(tmp_path / "home", kafka=broker.bootstrap)
    async with running("ingest", settings, recording) as runtime:
        await asyncio.sleep(0)
        assert await runtime.bus.stalled() == ["bus"]
        broker.start()

        async def healthy() -> bool:
            return await runtime.bus.stalled() == []

        await eventually(healthy)
        assert all(not topic.created for topic in await create_topics(broker.bootstrap))
