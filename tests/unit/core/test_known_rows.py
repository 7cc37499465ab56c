"""Rows that works of one transaction share, and statements that it executes at its end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.tables import create_tables
from tidemill.db import Database, open_database, rows
from tidemill.db.deferred import defer, execute_deferred


class Base(DeclarativeBase):
    """Rows of this test."""


class Sum(Base):
    __tablename__ = "sums"

    name: Mapped[str] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)


INSERT = insert(Sum.__table__)  # type: ignore[arg-type]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}") as opened:
        await create_tables(opened, Base.metadata)
        yield opened


@pytest.fixture
def statements() -> Any:
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def count(session: Session) -> None:
    """A work that holds no row when it ends."""
    rows.get_or_add(session, Sum, name="a").total += 1


async def total(database: Database) -> int:
    query = select(func.sum(Sum.total))
    return int(await database.read(lambda session: session.scalar(query)) or 0)


async def test_works_of_a_transaction_read_and_write_a_row_once(
    database: Database, statements: list[str]
) -> None:
    await database.write(count)
    statements.clear()
    await database.write(lambda session: [count(session) for _ in range(50)])
    assert [each.split()[0] for each in statements] == ["BEGIN", "SELECT", "UPDATE"]
    assert await total(database) == 51


async def test_a_row_that_was_added_is_found_and_a_deleted_one_is_not(database: Database) -> None:
    def work(session: Session) -> list[bool]:
        seen = [rows.find(session, Sum, ("b",)) is not None]
        rows.add(session, Sum(name="b"), ("b",))
        seen.append(rows.find(session, Sum, ("b",)) is not None)
        session.flush()
        session.delete(rows.get_or_add(session, Sum, name="b"))
        session.flush()
        return [*seen, rows.find(session, Sum, ("b",)) is not None]

    assert await database.write(work) == [False, True, False]


async def test_what_is_deferred_is_written_once_and_only_by_a_commit(
    database: Database, statements: list[str]
) -> None:
    def work(session: Session) -> None:
        for name in ("a", "b", "c"):
            defer(session, INSERT, {"name": name, "total": 1})

    def failing(session: Session) -> None:
        defer(session, INSERT, {"name": "d", "total": 1})
        raise RuntimeError

    await database.write(work)
    assert sum(each.startswith("INSERT") for each in statements) == 1
    with pytest.raises(RuntimeError):
        await database.write(failing)
    assert await total(database) == 3


async def test_what_is_deferred_can_be_written_before(database: Database) -> None:
    def work(session: Session) -> int:
        defer(session, INSERT, {"name": "a", "total": 1})
        execute_deferred(session)
        seen = session.scalars(select(func.count()).select_from(Sum)).one()
        defer(session, INSERT, {"name": "b", "total": 1})
        return int(seen)

    assert await database.write(work) == 1
    assert await total(database) == 2
