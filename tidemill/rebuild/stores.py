"""The store in use: a SQLite file, or a service's tables on a server; how either is exchanged."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tidemill.bus.admin import members_of
from tidemill.bus.tables import BusBase
from tidemill.db import Database, open_database
from tidemill.db.migrations import PATIENT
from tidemill.faults import StartRefused
from tidemill.rebuild import files
from tidemill.settings import MeshSettings

LOCK_SECONDS = 90.0
POLL_SECONDS = 0.5
ROWS_AT_ONCE = 500
TURN = "rebuild"

RUNNING = StartRefused("REBUILD_RUNNING", "another rebuild of this store is at work; wait for it")


class Store(Protocol):
    """Of one service."""

    service: str

    def building(self) -> AbstractAsyncContextManager[Path]:
        """An empty folder for the new store; for one rebuild at a time: StartRefused."""

    def alone(self, groups: Sequence[str]) -> AbstractAsyncContextManager[None]:
        """While no service uses the store; StartRefused. groups: in which they consume."""

    def open(self) -> AbstractAsyncContextManager[Database]: ...

    async def exists(self, tables: Sequence[Table]) -> bool:
        """Whether there is anything to compare with."""

    async def exchange(self, new: Database, folder: Path, tables: Sequence[Table]) -> None:
        """In one step, with the new store whose file lies in the folder."""


class FileStore:
    """A SQLite file."""

    def __init__(self, service: str, live: Path) -> None:
        self.service = service
        self._live = live

    @asynccontextmanager
    async def building(self) -> AsyncIterator[Path]:
        lock = self._live.with_name("rebuild.lock")
        async with files.held(lock, RUNNING, alone=True, seconds=0.0):
            with files.scratch(self._live.parent) as folder:
                yield folder

    def alone(self, groups: Sequence[str]) -> AbstractAsyncContextManager[None]:
        lock = files.store_lock(self._live)
        return files.held(lock, in_use(self.service), alone=True, seconds=LOCK_SECONDS)

    def open(self) -> AbstractAsyncContextManager[Database]:
        return open_database(f"sqlite+aiosqlite:///{self._live}")

    async def exists(self, tables: Sequence[Table]) -> bool:
        return self._live.exists()

    async def exchange(self, new: Database, folder: Path, tables: Sequence[Table]) -> None:
        await new.close()
        files.swap(folder / "rows.db", self._live)


class ServerStore:
    """Tables of a schema; the new rows take the place of the old in one transaction."""

    def __init__(self, service: str, settings: MeshSettings) -> None:
        self.service = service
        self._settings = settings

    @asynccontextmanager
    async def building(self) -> AsyncIterator[Path]:
        async with self.open() as database:
            async with database.session() as session:
                if await session.scalar(text("SELECT current_schema()")) is None:
                    raise not_migrated(self.service)
            if not await database.turn(TURN).held():
                raise RUNNING
            with files.scratch(self._settings.home / self.service) as folder:
                yield folder

    @asynccontextmanager
    async def alone(self, groups: Sequence[str]) -> AsyncIterator[None]:
        deadline = time.monotonic() + LOCK_SECONDS
        while await members_of(self._settings.kafka_address, groups):
            if time.monotonic() > deadline:
                raise in_use(self.service)
            await asyncio.sleep(POLL_SECONDS)
        yield

    def open(self) -> AbstractAsyncContextManager[Database]:
        return open_database(self._settings.database_url(self.service), self.service)

    async def exists(self, tables: Sequence[Table]) -> bool:
        async with self.open() as database, database.session() as session:
            connection = await session.connection()
            there = await connection.run_sync(lambda each: inspect(each).get_table_names())
            if missing := {table.name for table in tables} - set(there):
                raise not_migrated(", ".join(sorted(missing)))
            for table in tables:
                if await session.scalar(select(1).select_from(table).limit(1)):
                    return True
        return False

    async def exchange(self, new: Database, folder: Path, tables: Sequence[Table]) -> None:
        async with (
            new.session() as source,
            self.open() as live,
            live.changing_tables() as target,
        ):
            await target.execute(text(PATIENT))
            names = ", ".join(f'"{table.name}"' for table in tables)
            await target.execute(text(f"TRUNCATE {names}"))
            for table in tables:
                await copy_rows(source, target, table)


async def copy_rows(source: AsyncSession, target: AsyncConnection, table: Table) -> None:
    found = await source.stream(select(table))
    async for rows in found.mappings().partitions(ROWS_AT_ONCE):
        await target.execute(insert(table), [dict(row) for row in rows])
    number = table.autoincrement_column
    if number is not None:  # the next new row gets a number that none of these has
        place = func.pg_get_serial_sequence(f'"{table.name}"', number.name)
        highest = select(func.setval(place, func.max(number))).select_from(table)
        await target.execute(highest)


def tables_of(own: MetaData | None) -> list[Table]:
    """A service's and the bus's, whatever another refers to first."""
    return [*BusBase.metadata.sorted_tables, *(own.sorted_tables if own is not None else [])]


def not_migrated(missing: str) -> StartRefused:
    return StartRefused("MIGRATION_PENDING", f"no {missing}; run: python -m services.migrate")


def in_use(service: str) -> StartRefused:
    hint = f"{service} has its store open and does not stop; stop it and run this again"
    return StartRefused("STORE_IN_USE", hint)


def store_of(service: str, settings: MeshSettings) -> Store:
    live = files.sqlite_file(settings.database_url(service))
    return ServerStore(service, settings) if live is None else FileStore(service, live)
