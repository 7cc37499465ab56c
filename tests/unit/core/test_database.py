"""Transactions that are whole or absent, whatever cancels or fails them."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import Integer, String, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tidemill.db import Database
from tidemill.faults import Fault, Reason


class Base(DeclarativeBase):
    """Rows of these tests."""


class Note(Base):
    __tablename__ = "notes"

    note_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(String, default="")


async def count(database: Database) -> int:
    async with database.session() as session:
        return int((await session.scalars(select(func.count()).select_from(Note))).one())


async def add(database: Database, note_id: int, seconds: float = 0.0) -> None:
    async with database.transaction() as session:
        session.add(Note(note_id=note_id))
        await session.flush()
        await asyncio.sleep(seconds)


async def test_a_timeout_inside_a_transaction_leaves_nothing_behind(database: Database) -> None:
    """Cut at many moments: the row is there or not, and the next writer need not wait."""
    await database.create_tables(Base.metadata)
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
    await database.create_tables(Base.metadata)
    async with asyncio.timeout(20):
        await asyncio.gather(*(add(database, number) for number in range(100)))
    assert await count(database) == 100


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with database.transaction() as session:
        session.add(Note(note_id=1))
        await session.flush()
        async with asyncio.timeout(2):
            assert await count(database) == 0
    assert await count(database) == 1


async def test_what_a_reading_session_writes_is_rolled_back(database: Database) -> None:
    await database.create_tables(Base.metadata)
    async with database.session() as session:
        session.add(Note(note_id=1))
        await session.flush()
    assert await count(database) == 0


async def test_an_error_in_the_body_rolls_back(database: Database) -> None:
    await database.create_tables(Base.metadata)
    with pytest.raises(ZeroDivisionError):
        await add_and_fail(database)
    assert await count(database) == 0


async def add_and_fail(database: Database) -> None:
    async with database.transaction() as session:
        session.add(Note(note_id=1))
        await session.flush()
        raise ZeroDivisionError


async def fill(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("PRAGMA max_page_count = 1"))
        session.add(Note(note_id=1, text="x" * 1_000_000))


async def test_a_full_disk_is_a_retryable_fault(database: Database) -> None:
    await database.create_tables(Base.metadata)
    with pytest.raises(Fault) as caught:
        await fill(database)
    assert (caught.value.reason, caught.value.retryable) == (Reason.STORAGE_FULL, True)


async def test_a_mistake_in_a_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError):
        await count(database)


async def test_a_broken_constraint_is_no_outage_and_shows_no_values(database: Database) -> None:
    await database.create_tables(Base.metadata)
    await add(database, 1)
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as session:
            session.add(Note(note_id=1, text="text of a document"))
    assert "text of a document" not in str(caught.value)


async def test_a_lost_file_is_an_outage(database: Database, tmp_path: Any) -> None:
    await database.engine.dispose()
    (tmp_path / "rows.db").unlink(missing_ok=True)
    (tmp_path / "rows.db").mkdir()
    with pytest.raises(Fault) as caught:
        await database.ping()
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_writer_that_never_ends_is_a_fault_for_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.db.engine.BUSY_SECONDS", 0.05)
    async with database.transaction():
        with pytest.raises(Fault) as caught:
            async with database.transaction():
                pass
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
