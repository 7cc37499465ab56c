"""Statements that a transaction executes at its end, each once for all of its works."""

from typing import Any

from sqlalchemy import Executable, event
from sqlalchemy.orm import Session

DEFERRED = "tidemill.deferred"
Deferred = dict[Executable, list[dict[str, Any]]]


def defer(session: Session, statement: Executable, values: dict[str, Any]) -> None:
    """Execute the statement before the commit, with these values and with all others that wait for
    it, in their order. Nobody reads what it writes until then, or calls execute_deferred first."""
    waiting: Deferred | None = session.info.get(DEFERRED)
    if waiting is None:
        waiting = session.info[DEFERRED] = {}
        event.listen(session, "before_commit", execute_deferred)
    waiting.setdefault(statement, []).append(values)


def execute_deferred(session: Session) -> None:
    """Now, for a work that reads or deletes such rows."""
    waiting: Deferred = session.info.get(DEFERRED, {})
    while waiting:
        statement = next(iter(waiting))
        session.connection().execute(statement, waiting.pop(statement))
