"""One database a service; sessions for reading, units of the bus for writing."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, event, insert, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from tidemill.faults import Fault, Reason

BUSY_SECONDS = 10
HANG_SECONDS = 5.0

# Words of a SQLite operational error that is a mistake of the code, which no waiting heals.
MISTAKES = ("no such", "syntax error", "has no column", "ambiguous", "too many")
FULL = ("disk is full", "disk full", "no space left")

PROBE = Table(
    "storage_probe",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)


class Database:
    """An engine and its sessions. Rows stay readable after commit (expire_on_commit is off)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        reading = engine.execution_options(tidemill_read_only=True)
        self._reading = async_sessionmaker(reading, expire_on_commit=False)
        # SQLite has one writer; queueing here is fair and needs no polling of its lock.
        self._single = asyncio.Lock() if engine.dialect.name == "sqlite" else None
        self.writes = Writes()

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

    async def create_tables(self, metadata: MetaData) -> None:
        with storage_faults():
            async with self.engine.begin() as connection:
                await connection.run_sync(metadata.create_all)

    async def ping(self) -> None:
        """Raises Fault when the database does not answer, or takes no writes: a full or locked
        one still reads, so after a write that failed or hangs a real one must pass."""
        async with self.session() as session:
            await session.execute(text("SELECT 1"))
        if self.writes.hang():
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="database")
        if self.writes.failed:
            async with self.transaction() as session:
                await session.run_sync(write_probe)


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

    @contextmanager
    def watched(self) -> Iterator[None]:
        mark = object()
        self._began[mark] = time.monotonic()
        try:
            yield
            self.failed = False
        except Fault as fault:
            self.failed = fault.metadata.get("dependency") == "database" or self.failed
            raise
        finally:
            del self._began[mark]


@asynccontextmanager
async def held_briefly(lock: asyncio.Lock) -> AsyncIterator[None]:
    """The lock, or Fault(DEPENDENCY_UNAVAILABLE) when a writer sits on it for too long."""
    try:
        await asyncio.wait_for(lock.acquire(), BUSY_SECONDS)
    except TimeoutError as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="database") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turns the driver's operational errors into retryable faults."""
    try:
        yield
    except DBAPIError as error:
        reason = operational_reason(error)
        if reason is None:
            raise
        raise Fault(reason, dependency="database") from error
    except (PoolTimeoutError, ConnectionError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="database") from error


def operational_reason(error: DBAPIError) -> Reason | None:
    """Reason of an error that another try may heal; None for a bug such as a broken constraint."""
    detail = str(error.orig).lower()
    if any(words in detail for words in FULL):
        return Reason.STORAGE_FULL
    if error.connection_invalidated:
        return Reason.DEPENDENCY_UNAVAILABLE
    if isinstance(error, OperationalError) and not any(words in detail for words in MISTAKES):
        return Reason.DEPENDENCY_UNAVAILABLE
    return None


@asynccontextmanager
async def open_database(url: str, *, durable: bool = True) -> AsyncIterator[Database]:
    """Open the database at an SQLAlchemy URL; a SQLite file's folder is created.

    durable: False for a SQLite file that nobody misses when the machine stops.
    """
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    # An error's text must not hold the values of a statement: they are users' text.
    engine = create_async_engine(parsed, pool_pre_ping=not sqlite, hide_parameters=True)
    if sqlite:
        tune_sqlite(engine, durable=durable)
    try:
        yield Database(engine)
    finally:
        await engine.dispose()


def tune_sqlite(engine: AsyncEngine, *, durable: bool) -> None:
    """WAL, a commit that survives a power cut, and writers that queue instead of failing."""

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        # The driver must not open transactions by itself: BEGIN IMMEDIATE below takes the
        # write lock at once, so two writers wait for each other instead of deadlocking.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_SECONDS * 1000}",
            "journal_mode=WAL",
            f"synchronous={'FULL' if durable else 'OFF'}",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if wants_write(connection) else "BEGIN")


def wants_write(connection: Any) -> bool:
    return not connection.get_execution_options().get("tidemill_read_only", False)
