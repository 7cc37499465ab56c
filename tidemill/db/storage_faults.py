"""Which errors of a database another try may heal."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tidemill.db.rivals import rival_won
from tidemill.faults import Fault, Reason

DATABASE = "database"

# Words of a SQLite operational error that is a mistake of the code, which no waiting heals.
MISTAKES = ("no such", "syntax error", "has no column", "ambiguous", "too many", "already exists")
FULL = ("disk is full", "disk full", "no space left")
FULL_STATE = "53100"
READ_ONLY_STATE = "25006"
"""A primary that became a standby, or a managed server that is full."""
LOST_RACES = {"40001", "40P01"}
"""Serialization failure and deadlock: PostgreSQL's word for "the other one won, try again"."""


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turns the driver's operational errors into retryable faults."""
    try:
        yield
    except DBAPIError as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from error
    except (PoolTimeoutError, ConnectionError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=DATABASE) from error


def fault_of(error: DBAPIError) -> Fault | None:
    """A fault that another try may heal; None for a bug such as a broken constraint."""
    state = getattr(error.orig, "sqlstate", None)
    if state in LOST_RACES:
        return rival_won()
    detail = str(error.orig).lower()
    if state == FULL_STATE or any(words in detail for words in FULL):
        return Fault(Reason.STORAGE_FULL, dependency=DATABASE)
    if error.connection_invalidated or state == READ_ONLY_STATE or is_outage(error, detail):
        return Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=DATABASE)
    return None


def is_outage(error: DBAPIError, detail: str) -> bool:
    if not isinstance(error, OperationalError):
        return False
    mistake = any(words in detail for words in MISTAKES)
    return not (mistake and isinstance(error.orig, sqlite3.Error))
