"""Every test here runs on a SQLite file and on a PostgreSQL server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.schema import CreateSchema

from tests import postgres
from tidemill.db import Database, open_database

SCHEMA = "notes"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}"
    return postgres.empty_database(request.getfixturevalue("postgres_server"))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Its schema exists; nothing else does."""
    async with open_database(url, SCHEMA) as database:
        if not database.is_file:
            async with database.engine.begin() as connection:
                await connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
        yield database


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with opened(url) as one:
        yield one


@pytest.fixture
async def rival(url: str, database: Database) -> AsyncIterator[Database]:
    """Another process's door to the same rows."""
    async with opened(url) as one:
        yield one
