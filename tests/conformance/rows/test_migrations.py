"""Tables go forward and back, and are then those that the code describes."""

import asyncio
import importlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.engine import make_url

from services.evaluator.adapters.tables import Base as EvaluatorBase
from services.inference.adapters.store import Base as InferenceBase
from services.ingest.adapters.store import Base as IngestBase
from services.monitor.adapters.tables import Base as MonitorBase
from services.retriever.adapters.store import Base as RetrieverBase
from services.trainer.adapters.store import Base as TrainerBase
from tests.tables import create_tables
from tidemill.bus.migrations import MIGRATIONS as BUS
from tidemill.bus.tables import BusBase
from tidemill.db import Database, open_database
from tidemill.db.migrations import BASE, Migrations
from tidemill.faults import StartRefused

SCHEMA = "notes"
TABLES = {
    "evaluator": EvaluatorBase,
    "inference": InferenceBase,
    "ingest": IngestBase,
    "monitor": MonitorBase,
    "retriever": RetrieverBase,
    "trainer": TrainerBase,
}
CHAINS = [
    pytest.param(BUS, BusBase.metadata, id="bus"),
    *(
        pytest.param(
            importlib.import_module(f"services.{service}.migrations").MIGRATIONS,
            base.metadata,
            id=service,
        )
        for service, base in TABLES.items()
    ),
]


async def up(database: Database, chain: Migrations) -> None:
    async with database.changing_tables() as connection:
        await connection.run_sync(chain.upgrade)


async def go(database: Database, chain: Migrations, to: str) -> None:
    async with database.changing_tables() as connection:
        await connection.run_sync(chain.go, to)


async def tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))


def differences(connection: Connection, metadata: MetaData, version_table: str) -> Sequence[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "version_table": version_table}
    )
    return list(compare_metadata(context, metadata))


@pytest.mark.parametrize(("chain", "metadata"), CHAINS)
async def test_a_chain_ends_at_the_tables_of_the_code_and_goes_back_to_none(
    database: Database, chain: Migrations, metadata: MetaData
) -> None:
    for _ in range(2):
        await up(database, chain)
        await up(database, chain)
        async with database.engine.connect() as connection:
            left = await connection.run_sync(differences, metadata, f"{chain.name}_revision")
        assert left == []
        for revision in reversed([BASE, *chain.revisions[:-1]]):
            await go(database, chain, revision)
        assert await tables(database) == {f"{chain.name}_revision"}


@pytest.mark.parametrize(("chain", "metadata"), CHAINS)
async def test_a_store_from_before_there_were_revisions_keeps_its_rows(
    database: Database, chain: Migrations, metadata: MetaData
) -> None:
    await create_tables(database, metadata)
    table = metadata.sorted_tables[0]
    before = await tables(database)
    await up(database, chain)
    assert await tables(database) == before | {f"{chain.name}_revision"}
    assert table.name in before


async def test_rows_outlive_a_second_run(database: Database) -> None:
    await up(database, BUS)
    async with database.transaction() as session:
        await session.execute(
            text("INSERT INTO outbox (topic, key, headers) VALUES ('a', :key, '{}')"), {"key": b"k"}
        )
    await up(database, BUS)
    async with database.session() as session:
        assert (await session.execute(text("SELECT count(*) FROM outbox"))).scalar_one() == 1


async def test_many_that_start_at_once_make_the_tables_once(
    database: Database, rival: Database
) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(up(door, BUS) for door in (database, rival) * 5))
    assert await tables(database) == {"bus_revision", "inbox", "outbox"}


async def test_a_file_is_brought_up_to_date_and_a_server_is_asked_to_be(database: Database) -> None:
    if not database.is_file:
        with pytest.raises(StartRefused, match="bus_1"):
            await database.expect(BUS)
        assert await tables(database) == set()
        await up(database, BUS)
    await database.expect(BUS)
    assert "outbox" in await tables(database)


async def test_a_role_that_may_not_use_the_schema_is_told_so(database: Database, url: str) -> None:
    if database.is_file:
        pytest.skip("a file has no roles")
    await up(database, BUS)
    role = f"r{uuid.uuid4().hex[:12]}"
    async with database.engine.begin() as connection:
        await connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'p'"))
        await connection.execute(text(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}"))
    theirs = make_url(url).set(username=role, password="p").render_as_string(hide_password=False)
    async with open_database(theirs, SCHEMA) as stranger:
        with pytest.raises(StartRefused, match="InsufficientPrivilege"):
            await stranger.expect(BUS)


async def test_older_code_starts_on_newer_tables_and_leaves_them_alone(database: Database) -> None:
    await up(database, BUS)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE bus_revision SET version_num = 'bus_99'"))
    await database.expect(BUS)
    await up(database, BUS)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(BUS.current) == "bus_99"
    with pytest.raises(StartRefused, match="bus_99"):
        await go(database, BUS, BASE)


BROKEN = '''"""Fails in the middle."""

revision = "broken_1"
down_revision = None


def upgrade(op):
    op.execute("CREATE TABLE half (id INTEGER)")
    op.execute("CREATE TABLE half (id INTEGER)")
'''


async def test_a_migration_that_fails_leaves_nothing(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "broken.py").write_text(BROKEN)
    with pytest.raises(Exception, match="half"):
        await up(database, Migrations("broken", folder))
    assert await tables(database) == set()
