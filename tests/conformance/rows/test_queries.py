"""Queries of services that a database may read in its own way."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Column, MetaData, Table, insert, select

from services.monitor.adapters import alerts, counts
from services.monitor.adapters.tables import AlertRow, AnswerRow, Base
from services.monitor.handlers.calls import NEWEST
from tests.tables import create_tables
from tidemill.bus import UnitOfWork
from tidemill.clock import SystemClock
from tidemill.db import Database
from tidemill.db.types import UtcDateTime


@pytest.fixture(autouse=True)
async def _tables(database: Database) -> None:
    await create_tables(database, Base.metadata)


async def test_the_first_page_of_alerts_begins_at_the_newest(database: Database) -> None:
    async with database.transaction() as session:
        session.add_all(
            AlertRow(tenant_id="acme", alert_id=f"a{number}", content=b"") for number in range(3)
        )
    page = await database.read(lambda s: alerts.list_alerts(s, "acme", NEWEST, 2))
    rest = await database.read(lambda s: alerts.list_alerts(s, "acme", page[-1].place, 2))
    assert [row.alert_id for row in (*page, *rest)] == ["a2", "a1", "a0"]


async def test_old_answers_are_forgotten_some_at_a_time(database: Database) -> None:
    async with database.transaction() as session:
        session.add_all(
            AnswerRow(
                tenant_id="acme", answer_id=str(n), release_id="r", production=True, counted_at=n
            )
            for n in range(10)
        )
    rounds = 1
    while await forget(database):
        rounds += 1
    async with database.session() as session:
        left = [await session.get(AnswerRow, ("acme", str(n))) for n in range(10)]
    assert [row is not None for row in left] == [False] * 7 + [True] * 3
    assert rounds == 3


async def forget(database: Database) -> bool:
    return await database.write(
        lambda session: counts.forget_answers(
            UnitOfWork(session, "monitor", "", SystemClock()), 7, most=3
        )
    )


async def test_a_time_comes_back_in_utc(database: Database) -> None:
    table, moment = Table("moments", MetaData(), Column("at", UtcDateTime)), datetime.now(UTC)
    await create_tables(database, table.metadata)
    async with database.transaction() as session:
        await session.execute(insert(table).values(at=moment))
    async with database.session() as session:
        back = (await session.scalars(select(table.c.at))).one()
    assert (back, back.tzinfo) == (moment, UTC)
