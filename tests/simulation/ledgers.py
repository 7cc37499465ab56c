"""Read the databases of a run from outside, without the services' own code."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def read(path: Path, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Committed rows; none when the database or the table is not there yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=0.0)) as connection:
        try:
            return connection.execute(query, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def dump(path: Path, leave_out: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows in a fixed order, but for those named."""
    names = [n for (n,) in read(path, "SELECT name FROM sqlite_master WHERE type='table'")]
    return {
        name: sorted(read(path, f'SELECT * FROM "{name}"'), key=repr)  # noqa: S608
        for name in sorted(names)
        if name not in leave_out and not name.startswith("sqlite_")
    }
