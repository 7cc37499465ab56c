"""What only a SQLite file does; tests/conformance/rows has what every database must."""

from typing import Any

import pytest
from sqlalchemy import Integer, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.tables import create_tables
from tidemill.db import Database
from tidemill.faults import Fault, Reason


class Base(DeclarativeBase):
    """Rows of these tests."""


class Note(Base):
    __tablename__ = "notes"

    note_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(String, default="")


async def fill(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("PRAGMA max_page_count = 1"))
        session.add(Note(note_id=1, text="x" * 1_000_000))


async def test_a_full_disk_is_a_retryable_fault(database: Database) -> None:
    await create_tables(database, Base.metadata)
    with pytest.raises(Fault) as caught:
        await fill(database)
    assert (caught.value.reason, caught.value.retryable) == (Reason.STORAGE_FULL, True)


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
