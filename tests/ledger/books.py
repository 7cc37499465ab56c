"""A service's rows as they lie in its file or its schema, read without the service's code."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.postgres import libpq_url
from tidemill.bus.inbox import RECEIVED_REPLAY

Row = Mapping[str, Any]
Rows = list[Row]
BUSY_SECONDS = 20
SERVER = "rows.url"
"""A file in the home of a mesh whose rows are on PostgreSQL: where."""
ERRORS = (sqlite3.Error, psycopg.Error)


@dataclass(frozen=True)
class Books:
    """All tables of one service, of one moment."""

    tables: Mapping[str, Rows] = field(default_factory=dict)

    def rows(self, table: str) -> Rows:
        """Empty for a table that was never made."""
        return self.tables.get(table, [])

    def inbox(self) -> dict[tuple[str, str, str], Row]:
        """What is done with, by consumer, tenant and event id."""
        return {
            (row["consumer"], row["tenant_id"], row["event_id"]): row
            for row in self.rows("inbox")
            if row["replay"] > RECEIVED_REPLAY
        }


@dataclass(frozen=True)
class Reader:
    """Asks a service's rows, all in one transaction."""

    connection: Any
    names_query: str

    def tables(self) -> list[str]:
        return [name for (name,) in self.tuples(self.names_query)]

    def rows(self, table: str) -> Rows:
        return [dict(row) for row in self.connection.execute(f'SELECT * FROM "{table}"').fetchall()]  # noqa: S608

    def tuples(self, query: str) -> list[tuple[Any, ...]]:
        found = self.connection.execute(query).fetchall()
        return [tuple(dict(row).values()) for row in found]


@contextmanager
def reading(home: Path, service: str) -> Iterator[Reader | None]:
    """None when the service never ran. Raises one of ERRORS."""
    server, file = home / SERVER, home / service / "rows.db"
    if server.exists():
        with postgres_reader(server.read_text(), service) as reader:
            yield reader
    elif file.exists():
        with sqlite_reader(file) as reader:
            yield reader
    else:
        yield None


@contextmanager
def sqlite_reader(file: Path) -> Iterator[Reader]:
    uri = f"file:{file}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as database:
        database.row_factory = sqlite3.Row
        database.execute("BEGIN")
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        yield Reader(database, names)


@contextmanager
def postgres_reader(url: str, schema: str) -> Iterator[Reader]:
    options = f"-c search_path={schema} -c statement_timeout={BUSY_SECONDS}s -c timezone=UTC"
    with psycopg.connect(libpq_url(url), options=options, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        names = f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' ORDER BY tablename"  # noqa: S608
        yield Reader(connection, names)


def read_books(home: Path, service: str) -> Books:
    """Empty books when the service never ran. Raises one of ERRORS on damage."""
    with reading(home, service) as reader:
        return Books({name: reader.rows(name) for name in reader.tables()} if reader else {})


def check_file(home: Path, service: str) -> str:
    """What SQLite itself finds wrong with its file; empty when nothing."""
    if (home / SERVER).exists():
        return ""
    with reading(home, service) as reader:
        verdict = reader.tuples("PRAGMA quick_check")[0][0] if reader else "ok"
    return "" if verdict == "ok" else str(verdict)
