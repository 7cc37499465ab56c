"""The ledger in rows: who counts the epoch up has made the change, nobody else has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from services.evaluator.adapters import ledger
from services.evaluator.adapters.tables import Base
from services.evaluator.domain import releases
from services.evaluator.domain.releases import Ledger, State
from tests.tables import commit, create_tables
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.bus.tables import BusBase, OutboxRow
from tidemill.db import Database, open_database
from tidemill.faults import Fault

FACTS = ledger.ChangeFacts(at=1_000.0, canary_share=0.25)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as opened:
        await create_tables(opened, BusBase.metadata)
        await create_tables(opened, Base.metadata)
        yield opened


async def with_canary(database: Database) -> Ledger:
    """A ledger with a release in force and a canary."""
    return await commit(database, start_canary, source="evaluator")


def start_canary(unit: UnitOfWork) -> Ledger:
    held = Ledger()
    for name, parent in (("base", ""), ("rel_1", "base")):
        release = events.Release(release_id=name, tenant_id="acme", parent_release_id=parent)
        ledger.add_release(unit, release)
    for change in (
        lambda now: releases.adopt_first(now, "base"),
        lambda now: releases.propose(now, "rel_1"),
        lambda now: releases.start_canary(now, "rel_1"),
    ):
        changes = change(held)
        ledger.write_changes(unit, held, changes, FACTS)
        held = held.after(changes)
    return held


async def write(database: Database, held: Ledger, changes: tuple[releases.Change, ...]) -> None:
    await commit(database, lambda unit: ledger.write_changes(unit, held, changes, FACTS))


async def read(database: Database, tenant_id: str = "acme") -> Ledger:
    return await database.read(lambda session: ledger.read_ledger(session, tenant_id))


async def changes_told(database: Database) -> list[events.ReleaseChanged]:
    async with database.session() as session:
        rows = await session.scalars(select(OutboxRow).order_by(OutboxRow.position))
        return [events.ReleaseChanged.FromString(row.value) for row in rows]


async def test_the_rows_give_the_ledger_back(database: Database) -> None:
    held = await with_canary(database)
    found = await read(database)
    assert await read(database, "other") == Ledger(0, {})
    assert (found.epoch, dict(found.entries)) == (held.epoch, dict(held.entries))


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
    await write(database, held, promotion)
    with pytest.raises(Fault):
        await write(database, held, rollback)
    now = await read(database)
    assert now.in_force is not None
    assert now.in_force.release_id == "rel_1"
    assert now.entries["base"].state is State.SUPERSEDED
    assert [change.epoch for change in await changes_told(database)] == [1, 2, 3, 4, 5]


async def test_a_transaction_that_fails_leaves_neither_row_nor_event(database: Database) -> None:
    held = await with_canary(database)

    def promote_and_fail(unit: UnitOfWork) -> None:
        ledger.write_changes(unit, held, releases.promote(held, "rel_1", ()), FACTS)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await commit(database, promote_and_fail)
    assert (await read(database)).epoch == held.epoch
    assert len(await changes_told(database)) == 3
