"""Transactions that are whole or absent, and as if they ran one after the other."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Integer, String, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.tables import create_tables
from tidemill.db import Database
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault


class Base(DeclarativeBase):
    """Rows of these tests."""


class Note(Base):
    __tablename__ = "notes"

    note_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(String, default="")
    count: Mapped[int] = mapped_column(Integer, default=0)


@pytest.fixture(autouse=True)
async def _tables(database: Database) -> None:
    await create_tables(database, Base.metadata)


async def count(database: Database) -> int:
    async with database.session() as session:
        return int((await session.scalars(select(func.count()).select_from(Note))).one())


async def add(database: Database, note_id: int, seconds: float = 0.0) -> None:
    async with database.transaction() as session:
        session.add(Note(note_id=note_id))
        await session.flush()
        await asyncio.sleep(seconds)


async def until_done(work: Callable[[], Awaitable[None]], tries: int = 100) -> int:
    """As a delivery does: again while the fault says that another try may succeed."""
    for lost in range(tries):
        try:
            await work()
        except Fault as fault:
            if not fault.retryable:
                raise
            await asyncio.sleep(0.01 * (lost + 1))
        else:
            return lost
    raise AssertionError("never done")


async def test_a_timeout_inside_a_transaction_leaves_nothing_behind(database: Database) -> None:
    """Cut at many moments: the row is there or not, and the next writer need not wait."""
    for number in range(40):
        try:
            async with asyncio.timeout(number / 4_000):
                await add(database, number, 0.002)
        except TimeoutError:
            pass
        async with asyncio.timeout(2):
            await add(database, 1_000 + number)
    assert 40 <= await count(database) <= 80


async def test_many_writers_queue_without_locking_each_other_out(database: Database) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(add(database, number) for number in range(100)))
    assert await count(database) == 100


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    async with database.transaction() as session:
        session.add(Note(note_id=1))
        await session.flush()
        async with asyncio.timeout(2):
            assert await count(database) == 0
    assert await count(database) == 1


async def test_a_reading_session_sees_one_moment(database: Database, rival: Database) -> None:
    await add(database, 1)
    async with database.session() as session:
        before = (await session.scalars(select(func.count()).select_from(Note))).one()
        await add(rival, 2)
        after = (await session.scalars(select(func.count()).select_from(Note))).one()
    assert (before, after) == (1, 1)
    assert await count(database) == 2


async def test_what_a_reading_session_writes_is_rolled_back(database: Database) -> None:
    async with database.session() as session:
        session.add(Note(note_id=1))
        await session.flush()
    assert await count(database) == 0


async def test_an_error_in_the_body_rolls_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        await add_and_fail(database)
    assert await count(database) == 0


async def add_and_fail(database: Database) -> None:
    async with database.transaction() as session:
        session.add(Note(note_id=1))
        await session.flush()
        raise ZeroDivisionError


async def test_no_update_is_lost_between_two_processes(database: Database, rival: Database) -> None:
    await add(database, 1)

    async def count_up(door: Database) -> None:
        async with door.transaction() as session:
            row = await session.get_one(Note, 1)
            seen = row.count
            await asyncio.sleep(0.002)
            row.count = seen + 1

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(until_done(lambda door=door: count_up(door)) for door in (database, rival) * 10)  # type: ignore[misc]
        )
    async with database.session() as session:
        assert (await session.get_one(Note, 1)).count == 20


async def test_two_that_each_read_what_the_other_writes_do_not_both_pass(
    database: Database, rival: Database
) -> None:
    """Write skew: of two notes one must stay at zero; each counts the other before it writes."""
    await add(database, 1)
    await add(database, 2)

    async def claim(door: Database, note_id: int) -> None:
        async with door.transaction() as session:
            others = select(func.sum(Note.count)).where(Note.note_id != note_id)
            if (await session.scalars(others)).one() == 0:
                await asyncio.sleep(0.05)
                (await session.get_one(Note, note_id)).count = 1

    async with asyncio.timeout(30):
        await asyncio.gather(
            until_done(lambda: claim(database, 1)), until_done(lambda: claim(rival, 2))
        )
    async with database.session() as session:
        assert (await session.scalars(select(func.sum(Note.count)))).one() == 1


async def test_of_two_that_make_the_same_row_the_later_finds_it(
    database: Database, rival: Database
) -> None:
    made: list[Database] = []

    async def make(door: Database) -> None:
        async with door.transaction() as session:
            if await session.get(Note, 7) is None:
                await asyncio.sleep(0.02)
                session.add(Note(note_id=7))
                await session.flush()
                made.append(door)

    async with asyncio.timeout(30):
        await asyncio.gather(until_done(lambda: make(database)), until_done(lambda: make(rival)))
    assert await count(database) == 1


async def test_two_that_lock_each_other_out_both_end(database: Database, rival: Database) -> None:
    await add(database, 1)
    await add(database, 2)

    async def both(door: Database, first: int, second: int) -> None:
        async with door.transaction() as session:
            for note_id in (first, second):
                row = await session.get_one(Note, note_id, with_for_update=True)
                row.count += 1
                await session.flush()
                await asyncio.sleep(0.05)

    async with asyncio.timeout(30):
        await asyncio.gather(
            until_done(lambda: both(database, 1, 2)), until_done(lambda: both(rival, 2, 1))
        )
    async with database.session() as session:
        assert [n.count for n in (await session.scalars(select(Note))).all()] == [2, 2]


async def test_two_that_change_their_own_rows_of_a_small_table_are_no_rivals(
    database: Database, rival: Database
) -> None:
    """Statistics tell PostgreSQL that reading all of it is cheapest; then each had read what the
    other writes."""
    if database.is_file:
        pytest.skip("a file has one writer at a time")
    for note_id in range(20):
        await add(database, note_id)
    async with database.transaction() as session:
        await session.execute(text("ANALYZE notes"))
    async with database.transaction() as one, rival.transaction() as two:
        mine, theirs = await one.get_one(Note, 1), await two.get_one(Note, 2)
        mine.count, theirs.count = 5, 6
        await one.flush()
        await two.flush()
    async with database.session() as session:
        assert (await session.get_one(Note, 1)).count == 5
        assert (await session.get_one(Note, 2)).count == 6


async def test_calls_of_many_who_each_look_before_they_write_all_succeed(
    database: Database, rival: Database
) -> None:
    """As two calls with request ids do: of rivals that touch the same page one is sent back, and
    its caller must not notice."""

    @outlasting_rivals
    async def remember(door: Database, note_id: int) -> None:
        async with door.transaction() as session:
            if await session.get(Note, note_id) is None:
                session.add(Note(note_id=note_id))

    doors = (database, rival)
    async with asyncio.timeout(60):
        await asyncio.gather(*(remember(doors[n % 2], n // 2) for n in range(100)))
    assert await count(database) == 50


async def test_a_lost_race_is_no_outage(database: Database, rival: Database) -> None:
    """Health asks the database itself after a write that failed; a rival is no failure."""
    if database.is_file:
        pytest.skip("a file has one writer at a time")
    await add(database, 1)
    with pytest.raises(Fault) as caught:
        await lose(database, rival)
    assert caught.value.metadata == {"dependency": "rival_transaction"}
    assert not database.writes.failed


async def lose(database: Database, rival: Database) -> None:
    async with database.transaction() as session:
        row = await session.get_one(Note, 1)
        async with rival.transaction() as other:
            (await other.get_one(Note, 1)).count = 5
        row.count = 1


async def test_a_mistake_in_a_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with database.session() as session:
            await session.execute(text("SELECT nothing FROM nowhere"))


async def test_a_broken_constraint_is_no_outage_and_shows_no_values(database: Database) -> None:
    await add(database, 1)
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as session:
            session.add(Note(note_id=1, text="text of a document"))
    assert "text of a document" not in str(caught.value)


async def test_a_database_that_answers_passes_the_ping_of_health(database: Database) -> None:
    await database.ping()
    database.writes.failed = True
    await database.ping()
    assert not database.writes.failed
