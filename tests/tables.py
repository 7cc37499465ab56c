"""Tables of a test's own, which need no revisions, and transactions on them."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from tidemill.bus import UnitOfWork
from tidemill.bus.commits import GroupCommit
from tidemill.clock import Clock, SystemClock
from tidemill.db import Database

T = TypeVar("T")


async def create_tables(database: Database, metadata: MetaData) -> None:
    async with database.changing_tables() as connection:
        await connection.run_sync(metadata.create_all)


async def commit(
    database: Database,
    work: Callable[[UnitOfWork], T],
    *,
    source: str = "test",
    tenant_id: str = "acme",
    clock: Clock | None = None,
) -> T:
    """What the work returns, once its rows and events are committed as the bus commits them."""

    def unit(session: Session) -> UnitOfWork:
        return UnitOfWork(session, source, tenant_id, clock or SystemClock())

    return await GroupCommit(database, lambda: None).apply(work, unit)
