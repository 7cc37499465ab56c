"""Work that one process of a service does while the others wait for their turn."""

import asyncio
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tidemill.db.storage_faults import DATABASE, storage_faults
from tidemill.faults import Fault, Reason

ASK_SECONDS = 10.0
SILENT_SECONDS = 30
"""Who asks no more loses the turn: a frozen process keeps its connection, but not for longer."""
TRY = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || :name, 0))"


class Turn:
    """Held by one process of a service at a time. A file has one process, so it is always held.

    A process that was frozen may go on for a moment after its turn has passed to another: what it
    does must be safe to do twice.
    """

    def __init__(self, name: str, engine: AsyncEngine | None) -> None:
        self._name = f" {name}"
        self._engine = engine and engine.execution_options(isolation_level="AUTOCOMMIT")
        self._connection: AsyncConnection | None = None
        self._mine = False
        self._one = asyncio.Lock()

    async def held(self) -> bool:
        """Ask before each piece of work, and at least every SILENT_SECONDS. Raises Fault when the
        server does not answer: then nobody knows."""
        if self._engine is None:
            return True
        async with self._one:
            try:
                with storage_faults():
                    async with asyncio.timeout(ASK_SECONDS):
                        return await self._ask(self._engine)
            except BaseException as error:
                await self.release()
                if isinstance(error, TimeoutError):
                    raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=DATABASE) from error
                raise

    async def _ask(self, engine: AsyncEngine) -> bool:
        if self._connection is None:
            self._connection = await engine.connect()
            await self._connection.execute(text(f"SET idle_session_timeout = '{SILENT_SECONDS}s'"))
        if self._mine:
            await self._connection.execute(text("SELECT 1"))
        else:
            self._mine = bool(await self._connection.scalar(text(TRY), {"name": self._name}))
        return self._mine

    async def release(self) -> None:
        """Pass the turn on; the next question asks for it again."""
        connection, self._connection, self._mine = self._connection, None, False
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                # Back in the pool it would keep the lock.
                await connection.invalidate()
                await connection.close()
