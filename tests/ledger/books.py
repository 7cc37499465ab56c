"""A service's rows as they lie in its file, read by SQLite alone."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
BUSY_SECONDS = 20.0


@dataclass(frozen=True)
class Books:
    """All tables of one service, of one moment."""

    tables: Mapping[str, list[Row]] = field(default_factory=dict)

    def rows(self, table: str) -> list[Row]:
        """Empty for a table that was never made."""
        return self.tables.get(table, [])

    def inbox(self) -> dict[tuple[str, str, str], Row]:
        """By consumer, tenant and event id."""
        return {
            (row["consumer"], row["tenant_id"], row["event_id"]): row for row in self.rows("inbox")
        }


def read_books(home: Path, service: str) -> Books:
    """Empty books when the service never ran. Raises sqlite3.Error on a damaged file."""
    file = home / service / "rows.db"
    if not file.exists():
        return Books()
    uri = f"file:{file}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as database:
        database.row_factory = sqlite3.Row
        # One transaction, so that all tables are of one moment.
        database.execute("BEGIN")
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return Books(
            {
                name: [dict(row) for row in database.execute(f'SELECT * FROM "{name}"')]  # noqa: S608
                for (name,) in names
                if not name.startswith("sqlite_")
            }
        )


def check_file(home: Path, service: str) -> str:
    """What SQLite itself finds wrong with the file; empty when nothing."""
    file = home / service / "rows.db"
    if not file.exists():
        return ""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as found:
        verdict = str(found.execute("PRAGMA quick_check").fetchone()[0])
    return "" if verdict == "ok" else verdict
