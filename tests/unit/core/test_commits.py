"""Works that are ready at the same time share a transaction, and a bad one fails by itself."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from tests.tables import create_tables
from tidemill.bus import AlreadyApplied, UnitOfWork, inbox
from tidemill.bus.commits import GroupCommit, Settling
from tidemill.bus.inbox import Claim
from tidemill.bus.tables import BusBase, InboxRow, OutboxRow
from tidemill.bus.unit import raw_values
from tidemill.clock import SystemClock
from tidemill.db import Database
from tidemill.faults import Fault, Reason

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
async def commits(database: Database) -> GroupCommit:
    await create_tables(database, BusBase.metadata)
    return GroupCommit(database, lambda: None)


def unit(session: Session) -> UnitOfWork:
    return UnitOfWork(session, "test", "acme", SystemClock())


def settling(event_id: str, source: str = "shop", replay: int = 0) -> Settling:
    return Settling(Claim("test/t", "acme", source, event_id, replay), NOW)


def publish(key: str) -> Callable[[UnitOfWork], str]:
    def work(unit: UnitOfWork) -> str:
        unit.outbox.append(raw_values("t", key.encode(), b"v", {}))
        return key

    return work


def refuse(unit: UnitOfWork) -> str:
    publish("refused")(unit)
    raise Fault(Reason.DOCUMENT_BROKEN)


async def together(commits: GroupCommit, works: dict[str, Any]) -> list[Any]:
    """What became of each work; its name is the id of its event."""
    tasks = [commits.apply(work, unit, settling(name)) for name, work in works.items()]
    return await asyncio.gather(*tasks, return_exceptions=True)


async def published(database: Database) -> list[bytes]:
    query = OutboxRow.__table__.select().order_by(OutboxRow.position)
    return await database.read(lambda session: [row.key for row in session.execute(query)])


def commits_of(engine: Engine) -> list[str]:
    made: list[str] = []
    event.listen(engine, "commit", lambda connection: made.append("commit"))
    return made


async def test_works_that_come_together_share_one_commit_in_their_order(
    commits: GroupCommit, database: Database
) -> None:
    made = commits_of(database.direct)
    names = [f"e{number}" for number in range(50)]
    assert await together(commits, {name: publish(name) for name in names}) == names
    assert len(made) == 1
    assert await published(database) == [name.encode() for name in names]


async def test_a_bad_work_fails_alone_and_its_neighbours_are_applied(
    commits: GroupCommit, database: Database
) -> None:
    works = {"a": publish("a"), "bad": refuse, "b": publish("b")}
    first, bad, second = await together(commits, works)
    assert (first, second) == ("a", "b")
    assert isinstance(bad, Fault)
    assert bad.reason is Reason.DOCUMENT_BROKEN
    assert await published(database) == [b"a", b"b"]
    known = await database.read(
        lambda session: inbox.find_all(session, [settling(name).claim for name in works])
    )
    assert sorted(key[1] for key in known) == ["a", "b"]


async def test_an_event_that_comes_twice_at_once_is_applied_once(
    commits: GroupCommit, database: Database
) -> None:
    tasks = [commits.apply(publish("a"), unit, settling("same")) for _ in range(3)]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[0] == "a"
    assert [type(each) for each in found[1:]] == [AlreadyApplied] * 2
    assert await published(database) == [b"a"]


async def test_an_id_is_unique_within_its_source_only(
    commits: GroupCommit, database: Database
) -> None:
    """Two producers that count from one used to lose the second one's event without a trace."""
    for source in ("shop", "crm"):
        await commits.apply(publish(source), unit, settling("1", source))
    with pytest.raises(AlreadyApplied):
        await commits.apply(publish("again"), unit, settling("1", "crm"))
    assert await published(database) == [b"shop", b"crm"]


async def test_a_row_from_before_sources_hides_the_event_whatever_its_source(
    commits: GroupCommit, database: Database
) -> None:
    old = InboxRow(
        consumer="test/t", event_id="1", tenant_id="acme", outcome="applied", replay=0, done_at=NOW
    )
    await database.write(lambda session: session.add(old))
    with pytest.raises(AlreadyApplied):
        await commits.apply(publish("a"), unit, settling("1"))


async def test_a_work_whose_caller_has_gone_is_not_begun(
    commits: GroupCommit, database: Database
) -> None:
    held = asyncio.create_task(commits.apply(publish("first"), unit, settling("first")))
    await asyncio.sleep(0)
    gone = asyncio.create_task(commits.apply(publish("gone"), unit, settling("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await held
    await commits.apply(publish("last"), unit, settling("last"))
    assert await published(database) == [b"first", b"last"]


async def test_old_rows_are_forgotten_oldest_first(
    commits: GroupCommit, database: Database
) -> None:
    for number in range(5):
        at = datetime(2026, 1, 1 + number, tzinfo=UTC)
        claim = settling(f"e{number}").claim
        await commits.apply(publish("x"), unit, Settling(claim, at))
    before = datetime(2026, 1, 4, tzinfo=UTC)
    for forgotten in (2, 1, 0):
        dropped = await database.write(lambda s: inbox.forget(s, before=before, most=2))
        assert dropped == forgotten
    claims = [settling(f"e{number}").claim for number in range(5)]
    left = await database.read(lambda session: inbox.find_all(session, claims))
    assert sorted(key[1] for key in left) == ["e3", "e4"]
