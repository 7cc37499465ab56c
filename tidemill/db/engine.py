"""One database a service; sessions for reading, units of the bus for writing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, insert, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from tidemill.backoff import Backoff
from tidemill.db.migrations import Migrations
from tidemill.db.postgres import LATEST, SNAPSHOT, open_postgres
from tidemill.db.sqlite import BUSY_SECONDS, tune_sqlite
from tidemill.db.storage_faults import DATABASE, storage_faults
from tidemill.db.threads import DatabaseThreads
from tidemill.db.turn import Turn
from tidemill.faults import Fault, Reason, StartRefused

log = structlog.get_logger()

T = TypeVar("T")

HANG_SECONDS = 5.0
SERVER_SECONDS = 600.0
"""How long a service that starts waits for its database server."""
SERVER_BACKOFF = Backoff(0.2, 2.0)

PROBE = Table(
    "storage_probe",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)


class Database:
    """Two ways to the same rows. Rows stay readable after commit (expire_on_commit is off).

    read() and write() run a plain function in a database thread: one crossing per transaction,
    for whatever is done per event or per call. session() and transaction() await every statement.
    """

    def __init__(self, engine: AsyncEngine, direct: Engine) -> None:
        self.engine = engine
        self.direct = direct
        self._threads = DatabaseThreads(direct)
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self.is_file = engine.dialect.name == "sqlite"
        snapshot = {} if self.is_file else {"isolation_level": SNAPSHOT}
        reading = engine.execution_options(tidemill_read_only=True, **snapshot)
        self._reading = async_sessionmaker(reading, expire_on_commit=False)
        # SQLite has one writer; queueing here is fair and needs no polling of its lock.
        self._single = asyncio.Lock() if self.is_file else None
        self.writes = Writes()
        self._turns: list[Turn] = []

    def turn(self, name: str) -> Turn:
        """Of the work with that name, among the processes that share these rows."""
        self._turns.append(Turn(name, None if self.is_file else self.engine))
        return self._turns[-1]

    async def close(self) -> None:
        for turn in self._turns:
            await turn.release()
        await self._threads.close()
        await self.engine.dispose()

    async def read(self, work: Callable[[Session], T]) -> T:
        """What the work returns; it sees one moment of the rows, and what it changed is rolled
        back."""
        return await self._threads.read(work)

    async def write(self, work: Callable[[Session], T]) -> T:
        """What the work returns, once its transaction is committed; when it raises, nothing of it
        is left. A caller that is cancelled meanwhile does not know whether it was committed."""
        with self.writes.watched():
            if self._single is None:
                return await self._threads.write(work)
            await acquired(self._single)
            writing = self._threads.begin_write(work)
            # Not when the caller goes: until the thread ends, the next writer has to wait.
            writing.add_done_callback(lambda _: self._release())
            return await asyncio.shield(writing)

    def _release(self) -> None:
        if self._single is not None:
            self._single.release()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session for reading; whatever it did is rolled back at the end."""
        with storage_faults():
            async with self._reading() as session:
                yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session that commits at the end or leaves nothing. Never open one inside another."""
        with self.writes.watched():
            async with self._writer():
                with storage_faults():
                    async with self._sessions.begin() as session:
                        yield session

    def _writer(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._single is None else held_briefly(self._single)

    async def expect(self, migrations: Migrations) -> None:
        """Returns once the tables are those of the code. A file, which has one owner, is brought up
        to date; of a server's tables, which others use too, that is asked for: StartRefused."""
        if self.is_file:
            async with self.changing_tables() as connection:
                return await connection.run_sync(migrations.upgrade)
        if pending := await self._pending(migrations):
            hint = f"tables lack {', '.join(pending)}; run: python -m services.migrate"
            raise StartRefused("MIGRATION_PENDING", hint)

    async def _pending(self, migrations: Migrations) -> list[str]:
        """Waits for a server that is not there yet, as services may start in any order."""
        failures, end = 0, time.monotonic() + SERVER_SECONDS
        while True:
            try:
                async with self.changing_tables() as connection:
                    return await connection.run_sync(migrations.pending)
            except Fault as fault:
                if time.monotonic() > end:
                    raise StartRefused("DATABASE_UNAVAILABLE", "is TIDEMILL_DB there?") from fault
            except DBAPIError as error:
                hint = f"{type(error.orig).__name__}: may the role of TIDEMILL_DB use its schema?"
                raise StartRefused("DATABASE_REFUSED", hint) from error
            failures += 1
            # A wrong password looks like a server that is away.
            log.warning("database_unreachable", failures=failures)
            await asyncio.sleep(SERVER_BACKOFF.delay(failures))

    @asynccontextmanager
    async def changing_tables(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for migrations: after a wait for another's it sees what that one did."""
        engine = self.engine
        if not self.is_file:
            engine = engine.execution_options(isolation_level=LATEST)
        with storage_faults():
            async with engine.begin() as connection:
                yield connection

    async def ping(self) -> None:
        """Raises Fault when the database does not answer, or takes no writes: a full or locked
        one still reads, so after a write that failed or hangs a real one must pass."""
        await self.read(lambda session: session.execute(text("SELECT 1")).close())
        if self.writes.hang():
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=DATABASE)
        if self.writes.failed:
            await self.write(write_probe)


def write_probe(session: Session) -> None:
    """One row that changes with every probe."""
    connection = session.connection()
    PROBE.create(connection, checkfirst=True)
    counted = connection.execute(update(PROBE).values(count=PROBE.c.count + 1))
    if not counted.rowcount:
        connection.execute(insert(PROBE).values(id=1, count=1))


class Writes:
    """What became of the latest writes. failed: whether the last one met a storage fault."""

    def __init__(self) -> None:
        self.failed = False
        self._began: dict[object, float] = {}

    def hang(self) -> bool:
        """Whether one has taken far longer than any should."""
        oldest = min(self._began.values(), default=time.monotonic())
        return time.monotonic() - oldest > HANG_SECONDS

    def in_doubt(self) -> bool:
        """Whether a question to the database may bring news."""
        return self.failed or self.hang()

    @contextmanager
    def watched(self) -> Iterator[None]:
        mark = object()
        self._began[mark] = time.monotonic()
        try:
            yield
            self.failed = False
        except Fault as fault:
            self.failed = fault.metadata.get("dependency") == DATABASE or self.failed
            raise
        finally:
            del self._began[mark]


@asynccontextmanager
async def held_briefly(lock: asyncio.Lock) -> AsyncIterator[None]:
    await acquired(lock)
    try:
        yield
    finally:
        lock.release()


async def acquired(lock: asyncio.Lock) -> None:
    """Takes the lock, or raises Fault(DEPENDENCY_UNAVAILABLE) when a writer sits on it for too
    long."""
    try:
        async with asyncio.timeout(BUSY_SECONDS):
            await lock.acquire()
    except TimeoutError as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=DATABASE) from error


@asynccontextmanager
async def open_database(
    url: str, schema: str = "", *, durable: bool = True
) -> AsyncIterator[Database]:
    """Open the database at an SQLAlchemy URL; a SQLite file's folder is created.

    schema: of PostgreSQL, where all of a service's tables are. durable: False for a SQLite file
    that nobody misses when the machine stops.
    """
    database = Database(*open_engines(parsed(url), schema, durable))
    try:
        yield database
    finally:
        await database.close()


def parsed(url: str) -> URL:
    """Raises StartRefused, without a word of the address: it may hold a password."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        hint = "TIDEMILL_DB is no address; letters such as @ : / in a password are written as %40"
        raise StartRefused("DATABASE_ADDRESS_INVALID", hint) from None


def open_engines(url: URL, schema: str, durable: bool) -> tuple[AsyncEngine, Engine]:
    """One to await and one for threads. Raises StartRefused for a database that is neither."""
    if url.get_backend_name() == "postgresql":
        return open_postgres(url, schema)
    if url.get_backend_name() != "sqlite":
        hint = "TIDEMILL_DB must begin with postgresql:// or sqlite+aiosqlite:///"
        raise StartRefused("DATABASE_UNKNOWN", hint)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    # An error's text must not hold the values of a statement: they are users' text.
    awaited = create_async_engine(url, hide_parameters=True)
    direct = create_engine(url.set(drivername="sqlite"), hide_parameters=True)
    tune_sqlite(awaited.sync_engine, durable=durable)
    tune_sqlite(direct, durable=durable)
    return awaited, direct
