"""SQLite without threads: real files and real transactions, with latency, faults and locks by seed.

Stands where aiosqlite and the driver of database threads stand, so SQLAlchemy and everything above
it is the real thing. A database thread's transaction is one step of the loop; a process may be
killed at its commit.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation.loop import pass_time, running_loop
from tests.simulation.process import current

LOCK_SECONDS = 10.0
"""The busy timeout that the code asks SQLite for; here it passes in virtual time."""
RETRY_SECONDS = 0.05
STALL_SECONDS = 4.0
SETTLING = ("INSERT INTO inbox", "UPDATE inbox")


@dataclass
class Disk:
    """Faults of every database file: a list of messages a process meets at its next writes."""

    slow_share: float = 0.05
    # Of a service: what its next commits or statements say, once each.
    failing: dict[str, list[str]] = field(default_factory=dict)
    # Of a service: the share of its statements that take up to STALL_SECONDS.
    stalling: dict[str, float] = field(default_factory=dict)
    files: dict[Path, "File"] = field(default_factory=dict)

    def file(self, path: Path) -> "File":
        return self.files.setdefault(path, File(path))

    def complain(self, service: str) -> None:
        """Raises what the disk says to this service, if it has something to say."""
        waiting = self.failing.get(service)
        if waiting:
            message = waiting.pop(0)
            running_loop().trace("disk", message)
            raise sqlite3.OperationalError(message)

    def delay(self, service: str, latency: Random) -> float:
        """Seconds until a database thread of the service has its turn."""
        stalling = self.stalling.get(service)
        if stalling and latency.random() < stalling:
            return STALL_SECONDS * latency.random()
        return latency.expovariate(250.0 if latency.random() < self.slow_share else 2_000.0)

    def cut_power(self, kill_all: Callable[[], None]) -> None:
        """What was not flushed is gone. A process that dies closes its files, and SQLite tidies up
        with the last of them; a machine without power does not."""
        kept = [file.flushed_parts() for file in self.files.values()]
        kill_all()
        for file, (content, log) in zip(self.files.values(), kept, strict=True):
            file.restore(content, log)


@dataclass
class File:
    """A database file. flushed: bytes of its write-ahead log that a commit flushed."""

    path: Path
    flushed: int = 0

    @property
    def log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def committed(self, connection: sqlite3.Connection) -> None:
        """Only a connection that asked for full synchronisation has flushed its commit."""
        full = connection.execute("PRAGMA synchronous").fetchone()[0] >= 2
        if full and self.log.exists():
            self.flushed = self.log.stat().st_size

    def flushed_parts(self) -> tuple[bytes, bytes]:
        """What the platter holds of the file and of its write-ahead log."""
        content = self.path.read_bytes() if self.path.exists() else b""
        log = self.log.read_bytes() if self.log.exists() else b""
        return content, log[: self.flushed]

    def restore(self, content: bytes, log: bytes) -> None:
        self.path.with_name(self.path.name + "-shm").unlink(missing_ok=True)
        self.path.write_bytes(content)
        self.log.write_bytes(log)
        self.flushed = len(log)


def the_disk() -> Disk:
    """The disk of the run at hand."""
    disk: Disk = running_loop().disk
    return disk


def connect(database: str, **_: Any) -> "Connection":
    """Stands for aiosqlite.connect."""
    return Connection(Path(database))


def connect_in_thread(database: str, **options: Any) -> "ThreadConnection":
    """Stands for sqlite3.connect as SQLAlchemy's driver for threads calls it."""
    options |= {"timeout": 0.0, "factory": ThreadConnection}
    return sqlite3.connect(database, **options)


class ThreadConnection(sqlite3.Connection):
    """A connection of a database thread of one process."""

    def __init__(self, database: str, *args: Any, **options: Any) -> None:
        super().__init__(database, *args, **options)
        self.process = current()
        self.disk = the_disk()
        self.file = self.disk.file(Path(database))
        # Whether the open transaction wrote down that an event is done.
        self.settles = False
        self.process.handles.append(self.close)

    def cursor(self, *_: Any) -> Any:
        return super().cursor(ThreadCursor)

    def commit(self) -> None:
        """A kill may come before it or after it; only the caller's knowledge differs."""
        if not self.in_transaction:
            return
        loop = running_loop()
        settles, self.settles = self.settles, False
        loop.point_in_thread("before settling" if settles else "before commit")
        self.disk.complain(self.process.service)
        super().commit()
        self.file.committed(self)
        loop.trace("commit", self.file.path.parent.name)
        loop.point_in_thread("after settling" if settles else "after commit")

    def rollback(self) -> None:
        self.settles = False
        if self.process.alive:
            super().rollback()


class ThreadCursor(sqlite3.Cursor):
    """Statements that write may meet what the disk says."""

    def execute(self, operation: str, *parameters: Any) -> "ThreadCursor":
        self._meet(operation)
        super().execute(operation, *parameters)
        return self

    def executemany(self, operation: str, parameters: Any) -> "ThreadCursor":
        self._meet(operation)
        super().executemany(operation, parameters)
        return self

    def _meet(self, operation: str) -> None:
        connection: Any = self.connection
        connection.settles |= operation.startswith(SETTLING)
        if operation.startswith(("INSERT", "UPDATE", "DELETE")):
            connection.disk.complain(connection.process.service)


class Calls:
    """SQLAlchemy's back door into aiosqlite's thread."""

    def put_nowait(self, call: tuple["asyncio.Future[Any]", Any]) -> None:
        future, function = call
        future.set_result(function())


class Connection:
    """One connection of one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._disk = the_disk()
        self._file = self._disk.file(path)
        self._conn: Any = None
        self._tx = Calls()
        self._process = current()
        # Whether the open transaction wrote down that an event is done.
        self.settles = False
        # SQLAlchemy makes aiosqlite's thread a daemon.
        self._thread = self

    def __await__(self) -> Generator[Any, Any, "Connection"]:
        return self._open().__await__()

    async def _open(self) -> "Connection":
        await asyncio.sleep(0)
        self._conn = sqlite3.connect(self._path, isolation_level="", timeout=0.0)
        self._process.handles.append(self._abandon)
        return self

    def _abandon(self) -> None:
        """The process died: SQLite rolls back whoever opens the file next."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    @property
    def _connection(self) -> Any:
        return self._conn

    @property
    def isolation_level(self) -> Any:
        return self._conn.isolation_level

    async def create_function(self, *args: Any, **kwargs: Any) -> None:
        self._conn.create_function(*args, **kwargs)

    def cursor(self) -> "Cursor":
        return Cursor(self)

    async def commit(self) -> None:
        """A kill may come before it or after it; only the caller's knowledge differs."""
        if not self._conn.in_transaction:
            return
        loop = running_loop()
        await self.step()
        settles, self.settles = self.settles, False
        await loop.point("before settling" if settles else "before commit")
        self._disk.complain(self._process.service)
        self._conn.commit()
        self._file.committed(self._conn)
        loop.trace("commit", self._path.parent.name)
        await loop.point("after settling" if settles else "after commit")
        await self.step()

    async def rollback(self) -> None:
        await asyncio.sleep(0)
        self.settles = False
        if self._conn is not None:
            self._conn.rollback()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._abandon()

    def stop(self) -> None:
        self._abandon()

    async def step(self) -> None:
        latency = running_loop().latency
        stalling = self._disk.stalling.get(self._process.service)
        if stalling and latency.random() < stalling:
            await asyncio.sleep(STALL_SECONDS * latency.random())
        elif latency.random() < self._disk.slow_share:
            await pass_time(0.004)
        else:
            await asyncio.sleep(0)

    async def run(self, cursor: sqlite3.Cursor, call: str, *arguments: Any) -> None:
        """A locked file is waited for in virtual time, as SQLite itself would wait."""
        await self.step()
        waited = 0.0
        while True:
            try:
                getattr(cursor, call)(*arguments)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or waited >= LOCK_SECONDS:
                    raise
            pause = RETRY_SECONDS * (0.5 + running_loop().latency.random())
            waited += pause
            await asyncio.sleep(pause)


class Cursor:
    """Rows are fetched at once, as SQLAlchemy does with aiosqlite anyway."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None

    async def __aenter__(self) -> "Cursor":
        self._cursor = self._connection._conn.cursor()
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description if self._cursor else None

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount if self._cursor else -1

    @property
    def lastrowid(self) -> int:
        return (self._cursor.lastrowid or 0) if self._cursor else 0

    async def execute(self, operation: str, parameters: Any = ()) -> "Cursor":
        assert self._cursor
        self._connection.settles |= operation.startswith(SETTLING)
        if operation.startswith("PRAGMA busy_timeout"):
            return self
        if operation.startswith(("INSERT", "UPDATE", "DELETE")):
            self._connection._disk.complain(self._connection._process.service)
        await self._connection.run(self._cursor, "execute", operation, parameters)
        return self

    async def executemany(self, operation: str, parameters: Any) -> "Cursor":
        assert self._cursor
        self._connection._disk.complain(self._connection._process.service)
        await self._connection.run(self._cursor, "executemany", operation, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        assert self._cursor
        return self._cursor.fetchall()

    async def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
