"""A clock that tests turn, a key, and a database on a real file."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill.db import Database, open_database
from tidemill.security.keys import MeshKey, load_or_create_key
from tidemill.security.tokens import Identity


class TurnedClock:
    """Stands still until a test turns it."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def turn(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def key(tmp_path: Path) -> MeshKey:
    return load_or_create_key(tmp_path / "keys")


@pytest.fixture
def identity(key: MeshKey, clock: TurnedClock) -> Identity:
    return Identity(key, "service:test", clock)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    before = set(threading.enumerate())
    async with open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as opened:
        yield opened
    # The driver's thread of a connection that failed tells the loop once more that it ends, and
    # nobody waits for that: a loop that is closed by then would make it a failure of the next test.
    for thread in set(threading.enumerate()) - before:
        if "_connection_worker" in thread.name:
            await asyncio.to_thread(thread.join, 10)
