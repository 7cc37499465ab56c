"""The ledger in rows: who counts the epoch up has made the change, nobody else has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from services.evaluator.adapters import ledger
from services.evaluator.adapters.tables import Base
from services.evaluator.domain import releases
from services.evaluator.domain.releases import Ledger, State
from tests.tables import create_tables
from tidemill.api.events import v1 as events
from tidemill.bus import Unit
from tidemill.bus.tables import BusBase, OutboxRow
from tidemill.clock import SystemClock
from tidemill.db import Database, open_database
from tidemill.faults import Fault

FACTS = ledger.ChangeFacts(at=1_000.0, canary_share=0.25)


@asynccontextmanager
async def unit_on(database: Database) -> AsyncIterator[Unit]:
    async with database.transaction() as session:
        yield Unit(session=session, source="evaluator", tenant_id="acme", clock=SystemClock())


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as opened:
        await create_tables(opened, BusBase.metadata)
        await create_tables(opened, Base.metadata)
        yield opened


async def with_canary(database: Database) -> Ledger:
    """A ledger with a release in force and a canary."""
    held = Ledger()
    async with unit_on(database) as unit:
        for name, parent in (("base", ""), ("rel_1", "base")):
            release = events.Release(release_id=name, tenant_id="acme", parent_release_id=parent)
            await ledger.add_release(unit, release)
        for change in (
            lambda now: releases.adopt_first(now, "base"),
            lambda now: releases.propose(now, "rel_1"),
            lambda now: releases.start_canary(now, "rel_1"),
        ):
            changes = change(held)
            await ledger.write_changes(unit, held, changes, FACTS)
            held = held.after(changes)
    return held


async def changes_told(database: Database) -> list[events.ReleaseChanged]:
    async with database.session() as session:
        rows = await session.scalars(select(OutboxRow).order_by(OutboxRow.position))
        return [events.ReleaseChanged.FromString(row.value) for row in rows]


async def test_the_rows_give_the_ledger_back(database: Database) -> None:
    held = await with_canary(database)
    async with database.session() as session:
        read = await ledger.read_ledger(session, "acme")
        assert await ledger.read_ledger(session, "other") == Ledger(0, {})
    assert (read.epoch, dict(read.entries)) == (held.epoch, dict(held.entries))


async def test_events_carry_state_epoch_and_canary_share(database: Database) -> None:
    await with_canary(database)
    told = await changes_told(database)
    assert [change.epoch for change in told] == [1, 2, 3]
    assert [change.canary_share for change in told] == [0.0, 0.0, 0.25]
    assert told[2].release.parent_release_id == "base"


async def test_two_deciders_of_one_epoch_make_one_decision(database: Database) -> None:
    held = await with_canary(database)
    promotion = releases.promote(held, "rel_1", ())
    rollback = releases.roll_back(held, "rel_1", ("CANARY_ERRORS",))
    async with unit_on(database) as unit:
        await ledger.write_changes(unit, held, promotion, FACTS)
    with pytest.raises(Fault):
        async with unit_on(database) as unit:
            await ledger.write_changes(unit, held, rollback, FACTS)
    async with database.session() as session:
        now = await ledger.read_ledger(session, "acme")
    assert now.in_force is not None
    assert now.in_force.release_id == "rel_1"
    assert now.entries["base"].state is State.SUPERSEDED
    assert [change.epoch for change in await changes_told(database)] == [1, 2, 3, 4, 5]


async def test_a_transaction_that_fails_leaves_neither_row_nor_event(database: Database) -> None:
    held = await with_canary(database)

    async def promote_and_fail() -> None:
        async with unit_on(database) as unit:
            await ledger.write_changes(unit, held, releases.promote(held, "rel_1", ()), FACTS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await promote_and_fail()
    async with database.session() as session:
        assert (await ledger.read_ledger(session, "acme")).epoch == held.epoch
    assert len(await changes_told(database)) == 3
