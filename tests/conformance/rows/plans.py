"""How a database would read what the code asks it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from tidemill.db import Database

EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}


@asynccontextmanager
async def noting(database: Database, asked: list[tuple[str, Any]]) -> AsyncIterator[None]:
    """Appends each statement with its parameters while the block runs."""

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    engine = database.direct
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def plan_of(database: Database, ask: Callable[[Session], object]) -> str:
    """The plans of every statement that `ask` sends, by the statistics of the rows there are."""
    async with database.transaction() as session:
        await session.execute(text("ANALYZE"))
    asked: list[tuple[str, Any]] = []
    async with noting(database, asked):
        await database.write(ask)
    found = [each for each in asked if each[0].lstrip().startswith(("SELECT", "UPDATE"))]
    return "\n".join([await _explained(database, *each) for each in found])


async def _explained(database: Database, statement: str, parameters: Any) -> str:
    async with database.engine.connect() as connection:
        if not database.is_file:
            # Off for the services, which makes any index look like the right one.
            await connection.execute(text("SET LOCAL enable_seqscan = on"))
        explain = f"{EXPLAIN[connection.dialect.name]} {statement}"
        found = await connection.exec_driver_sql(explain, parameters)
        return "\n".join(str(tuple(row)) for row in found)
