"""Work that is done by one process at a time."""

import asyncio

import pytest

from tests.waiting import eventually
from tidemill.db import Database
from tidemill.faults import Fault


@pytest.fixture(autouse=True)
def _server_only(database: Database) -> None:
    if database.is_file:
        pytest.skip("a file has one process")


async def test_one_of_two_has_the_turn_until_it_passes_it_on(
    database: Database, rival: Database
) -> None:
    first, second = database.turn("relay"), rival.turn("relay")
    assert await first.held()
    assert not await second.held()
    assert await first.held()
    await first.release()
    assert await second.held()
    assert not await first.held()


async def test_other_work_has_a_turn_of_its_own(database: Database, rival: Database) -> None:
    assert await database.turn("relay").held()
    assert await rival.turn("schedule").held()


async def test_a_process_that_ends_passes_its_turn_on(database: Database, rival: Database) -> None:
    assert await database.turn("relay").held()
    await database.close()
    await eventually(rival.turn("relay").held, 10)


async def test_a_frozen_process_loses_its_turn_and_knows_it_when_it_wakes(
    database: Database, rival: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.db.turn.SILENT_SECONDS", 1)
    frozen, other = database.turn("relay"), rival.turn("relay")
    assert await frozen.held()
    await eventually(other.held, 10)
    with pytest.raises(Fault):
        await frozen.held()
    assert not await frozen.held()


async def test_many_tasks_of_one_process_ask_at_once(database: Database) -> None:
    turn = database.turn("schedule")
    assert all(await asyncio.gather(*(turn.held() for _ in range(20))))
