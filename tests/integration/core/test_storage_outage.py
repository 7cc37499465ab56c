"""Rows that cannot be written hold events back; none is lost or parked for it."""

import asyncio
import sqlite3
from typing import Any

import pytest

from tests.conftest import retried
from tests.integration.core.parts import effects, recording
from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked
from tidemill.bus.dead_letters.actions import list_dead_letters


async def test_events_wait_while_another_process_locks_the_database(
    outside: Any, run_service: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.db.engine.BUSY_SECONDS", 1)
    async with run_service("ingest", outside.settings, recording) as runtime:
        file = outside.settings.home / "ingest" / "rows.db"
        rival = sqlite3.connect(file, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        for number in range(5):
            await outside.submit("doc", event_id=f"event-{number}")
        await eventually(lambda: retried(runtime, "DEPENDENCY_UNAVAILABLE"), 60)
        assert await effects(runtime) == []
        rival.execute("ROLLBACK")
        rival.close()

        async def applied() -> bool:
            return await effects(runtime) == [f"event-{number}" for number in range(5)]

        await eventually(applied, 60)
    assert await list_dead_letters(outside.bootstrap) == []


async def test_a_committed_event_leaves_once_the_broker_is_back(
    start_broker: Any, tmp_path: Any, mesh_settings: Any, run_service: Any, eventually: Any
) -> None:
    """The broker dies after the service connected; the outbox keeps what callers were promised."""
    broker = start_broker()
    settings = mesh_settings(tmp_path / "home", kafka=broker.bootstrap)
    async with run_service("ingest", settings, recording) as runtime:
        await asyncio.to_thread(broker.kill)
        await runtime.bus.write(
            "acme",
            lambda unit: unit.publish(topics.DOCUMENTS_CHUNKED, "doc", DocumentChunked()),
        )
        assert await runtime.bus.relay.depth() == 1
        await asyncio.to_thread(broker.start)

        async def left() -> bool:
            return await runtime.bus.relay.depth() == 0

        await eventually(left, 60)
