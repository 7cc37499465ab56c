"""Brings tables to the version that the code expects, and back.

A chain of Alembic revisions lies in a folder. Its scripts take the operations as an argument,
`def upgrade(op)`, so that two chains may run in one process: Alembic's own `op` is global.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, inspect, text

from tidemill.faults import StartRefused

HEAD = "head"
BASE = "base"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' migrations', 0))"
PATIENT = "SET LOCAL statement_timeout = 0"
"""A big table takes as long as it takes to change; waiting for its lock still has an end."""

Heads = tuple[str, ...]


@dataclass(frozen=True)
class Migrations:
    """name: of the chain; the database remembers its revision in `{name}_revision`."""

    name: str
    folder: Path

    @cached_property
    def script(self) -> ScriptDirectory:
        return ScriptDirectory(str(self.folder), version_locations=[str(self.folder)])

    @property
    def revisions(self) -> list[str]:
        """Oldest first."""
        return [script.revision for script in self.script.walk_revisions()][::-1]

    def has(self, revision: str) -> bool:
        return revision in self.revisions

    def current(self, connection: Connection) -> str:
        """The database's revision, or nothing before the first."""
        return ",".join(self._context(connection).get_current_heads())

    def pending(self, connection: Connection) -> list[str]:
        """Revisions that the code has and the database does not, the first to run first."""
        heads = self._context(connection).get_current_heads()
        return [step.revision.revision for step in self._steps_up(heads)]

    def upgrade(self, connection: Connection) -> None:
        """In the caller's transaction: all of it or nothing. A database that newer code has
        migrated stays as it is."""
        self._run(connection, self._steps_up)

    def go(self, connection: Connection, to: str) -> None:
        """Forward or back to a revision of this chain, or to BASE. Raises StartRefused when the
        database is where only newer code knows the way."""
        places = ["", *self.revisions]
        at = self.current(connection)
        if at not in places:
            hint = f"the tables are at {at}, which this code does not know; use the code that does"
            raise StartRefused("REVISION_UNKNOWN", hint)
        back = places.index("" if to == BASE else to) < places.index(at)
        way = "_downgrade_revs" if back else "_upgrade_revs"
        self._run(connection, lambda heads: self._plan(way, to, heads))

    def _steps_up(self, heads: Heads) -> Sequence[Any]:
        newer = not set(heads).issubset(self.revisions)
        return [] if newer else self._plan("_upgrade_revs", HEAD, heads)

    def _plan(self, way: str, to: str, heads: Heads) -> Sequence[Any]:
        """Alembic's own commands call these two; they have no public name."""
        steps: list[Any] = list(getattr(self.script, way)(to, heads or None))
        return steps

    def _run(self, connection: Connection, steps: Callable[[Heads], Sequence[Any]]) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text(PATIENT))
            connection.execute(text(LOCK))
        context = self._context(connection, fn=lambda heads, _: steps(heads))
        context.run_migrations(op=Operations(context))

    def _context(self, connection: Connection, **options: Any) -> MigrationContext:
        return MigrationContext.configure(
            connection, opts={"version_table": f"{self.name}_revision", **options}
        )


def add_missing_column(op: Operations, table: str, column: Column[Any]) -> None:
    """For revisions; SQLite has no ADD COLUMN IF NOT EXISTS."""
    known = {each["name"] for each in inspect(op.get_bind()).get_columns(table)}
    if column.name not in known:
        op.add_column(table, column)
