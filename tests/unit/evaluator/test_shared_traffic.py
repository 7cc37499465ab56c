"""Live answers and thumbs whose works share a transaction with each other and with decisions."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from services.evaluator.adapters import ledger, traffic
from services.evaluator.adapters.tables import Base
from services.evaluator.domain import releases
from services.evaluator.domain.canary import Arm
from services.evaluator.handlers import canarying
from tests.tables import commit, create_tables
from tests.unit.evaluator.test_ledger_rows import FACTS, start_canary
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.bus.tables import BusBase
from tidemill.db import Database, open_database

LATER = datetime(2030, 1, 1, tzinfo=UTC).timestamp()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as opened:
        await create_tables(opened, BusBase.metadata)
        await create_tables(opened, Base.metadata)
        yield opened


def note(unit: UnitOfWork, number: int, most: int = 100) -> None:
    message = events.AnswerGenerated(answer_id=f"a-{number}", release_id="rel_1")
    canarying._note_answer(unit, message, LATER, most)


async def arm(database: Database, release_id: str = "rel_1") -> Arm:
    return await database.read(lambda session: traffic.read_arm(session, "acme", release_id))


async def test_an_answer_counts_once_and_no_more_than_the_limit(database: Database) -> None:
    def some(unit: UnitOfWork) -> None:
        for number in (1, 2, 1, 2, 3):
            note(unit, number, most=5)

    def more(unit: UnitOfWork) -> None:
        for number in (3, 4, 4, 5, 6, 7):
            note(unit, number, most=5)

    await commit(database, start_canary)
    await commit(database, some)
    assert (await arm(database)).answers == 3
    await commit(database, more)
    assert (await arm(database)).answers == 5


async def test_answers_after_a_decision_in_the_same_transaction_are_none_of_it(
    database: Database,
) -> None:
    held = await commit(database, start_canary)

    def decide_between(unit: UnitOfWork) -> None:
        note(unit, 1)
        ledger.write_changes(unit, held, releases.promote(held, "rel_1", ()), FACTS)
        traffic.forget_traffic(unit)
        note(unit, 2)

    await commit(database, decide_between)
    assert (await arm(database)).answers == 0


async def test_a_canary_counts_from_its_start_in_the_same_transaction(database: Database) -> None:
    def begin_between(unit: UnitOfWork) -> None:
        note(unit, 1)
        start_canary(unit)
        note(unit, 2)

    await commit(database, begin_between)
    assert (await arm(database)).answers == 1


async def test_the_latest_of_several_thumbs_counts_in_any_order(database: Database) -> None:
    def thumbs(unit: UnitOfWork) -> None:
        note(unit, 1)
        for up, at in ((True, 5.0), (False, 9.0), (True, 7.0)):
            traffic.set_thumb(unit, "a-1", up, at)

    await commit(database, start_canary)
    await commit(database, thumbs)
    found = await arm(database)
    assert (found.thumbs_up, found.thumbs_down) == (0, 1)


async def test_a_further_answer_costs_one_statement(database: Database) -> None:
    """A look whether it is known; canary and count are read once, rows are written together."""
    seen: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    async def statements_of(numbers: range) -> int:
        before = len(seen)
        await commit(database, lambda unit: [note(unit, number) for number in numbers])
        return len(seen) - before

    await commit(database, start_canary)
    event.listen(Engine, "before_cursor_execute", listen)
    try:
        few, many = await statements_of(range(10)), await statements_of(range(20, 60))
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert many - few == 30
