"""Fixtures of the retriever's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.retriever.adapters.store import Base
from services.retriever.adapters.vector_store import VectorStore
from tests.tables import create_tables
from tests.unit.retriever.world import ManualClock, World, with_store
from tidemill.bus import open_bus
from tidemill.db import open_database
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity
from tidemill.telemetry import open_telemetry


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    identity = Identity(load_or_create_key(tmp_path / "keys"), "service:retriever", clock)
    async with (
        open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as database,
        VectorStore(str(tmp_path / "milvus.db"), 10.0) as vectors,
    ):
        with open_telemetry("retriever", tmp_path, metrics_port=None) as telemetry:
            await create_tables(database, Base.metadata)
            bus_of = open_bus("retriever", "127.0.0.1:1", database, identity, clock, telemetry)
            async with bus_of as bus:
                empty = World(database, bus, vectors, clock, None, None)  # type: ignore[arg-type]
                world = with_store(empty, vectors)
                await world.upkeep.reconcile()
                yield world
