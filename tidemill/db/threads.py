"""Transactions as plain functions, run in threads of the database's own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from tidemill.db.postgres import MOST, SNAPSHOT
from tidemill.db.storage_faults import storage_faults

T = TypeVar("T")

FILE_READERS = 2
CLOSE_SECONDS = 2.0


class DatabaseThreads:
    """A file has one writer's thread; a server gets as many as its pool has connections.

    The work sees the caller's context, so that events published in it carry the caller's trace.
    """

    def __init__(self, engine: Engine) -> None:
        is_file = engine.dialect.name == "sqlite"
        snapshot = {} if is_file else {"isolation_level": SNAPSHOT}
        reading = engine.execution_options(tidemill_read_only=True, **snapshot)
        self._engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._reading = sessionmaker(reading, expire_on_commit=False)
        self._writers = ThreadPoolExecutor(1 if is_file else MOST, "database-write")
        self._readers = ThreadPoolExecutor(FILE_READERS, "database-read") if is_file else None

    async def read(self, work: Callable[[Session], T]) -> T:
        return await self._run(self._readers or self._writers, self._read, work)

    async def write(self, work: Callable[[Session], T]) -> T:
        return await self.begin_write(work)

    def begin_write(self, work: Callable[[Session], T]) -> "asyncio.Future[T]":
        """Ends when the thread does; its failure need not be asked for."""
        writing = self._run(self._writers, self._write, work)
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return writing

    def _run(
        self,
        threads: ThreadPoolExecutor,
        run: Callable[[Callable[[Session], T]], T],
        work: Callable[[Session], T],
    ) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(threads, copy_context().run, run, work)

    def _read(self, work: Callable[[Session], T]) -> T:
        with storage_faults(), self._reading() as session:
            return work(session)

    def _write(self, work: Callable[[Session], T]) -> T:
        with storage_faults(), self._sessions.begin() as session:
            return work(session)

    async def close(self) -> None:
        """Lets the works under way end first, so that their connections are closed too; one that
        hangs must not keep the process."""
        pools = [threads for threads in (self._writers, self._readers) if threads is not None]
        for threads in pools:
            threads.shutdown(wait=False, cancel_futures=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for threads in pools:
                    await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()
