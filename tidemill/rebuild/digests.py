"""Hashes of rows: equal when the same rows are there, in whatever order they were written."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.orm import DeclarativeBase, Session


def table_hash(
    session: Session, row: type[DeclarativeBase], leave_out: Collection[str] = ()
) -> str:
    """SHA-256 over a table's sorted rows, hexadecimal. leave_out: columns that say when or in
    which order the store was written, and nothing of what it holds."""
    table: Table = row.__table__  # type: ignore[assignment]
    columns = [column for column in table.columns if column.name not in leave_out]
    found = session.execute(select(*columns))
    return rows_hash(found.all())


def rows_hash(rows: Collection[Any]) -> str:
    lines = sorted(json.dumps([_plain(value) for value in row], sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value if isinstance(value, int | float | str | list | dict | None) else str(value)
