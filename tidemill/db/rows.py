"""Single rows that a transaction reads and then changes.

Works that share a transaction share what it has read: the session alone would forget a row that
nobody holds, and read it again for the next work.
"""

from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, inspect, literal, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from tidemill.db.rivals import rival_won

Row = TypeVar("Row", bound=DeclarativeBase)

KNOWN = "tidemill.known_rows"
MISSING = object()
Known = dict[tuple[type[DeclarativeBase], Any], Any]


def get_locked(session: Session, table: type[Row], key: Any) -> Row | None:
    """The row of that primary key, kept from other writers until the commit; None without one."""
    row = known(session, table, key)
    if row is None:
        # A file has one writer.
        lock = None if session.get_bind().dialect.name == "sqlite" else True
        row = session.get(table, key, with_for_update=lock)
        if row is not None:
            remember(session, row, key)
    return row


def known(session: Session, table: type[Row], key: Any) -> Row | None:
    """The row of that primary key if the transaction has read or added it."""
    row: Row | None = _known(session).get((table, key))
    return row if row is not None and row in session else None


def remember(session: Session, row: Row, key: Any) -> None:
    """A row with that primary key that a query has read."""
    _known(session)[type(row), key] = row


def get_or_add(session: Session, table: type[Row], **key: Any) -> Row:
    """The row of that primary key, made if it is missing, kept from other writers. A rival that
    made it meanwhile is the fault of a lost race."""
    values = tuple(key.values())
    row = get_locked(session, table, values)
    if row is None:
        session.flush()
        row = table(**key)
        add(session, row, values)
        try:
            session.flush()
        except IntegrityError as error:
            raise rival_won() from error
    return row


def find(session: Session, table: type[Row], key: tuple[Any, ...]) -> Row | None:
    """The row of that primary key, looked for once a transaction and without a flush. Only for
    tables whose new rows go through add() or get_or_add()."""
    found = _known(session)
    row = known(session, table, key)
    if row is None and found.get((table, key), MISSING) is not None:
        names = {f"key_{place}": value for place, value in enumerate(key)}
        is_there = session.connection().execute(_presence(table), names).first() is not None
        with session.no_autoflush:
            row = session.get(table, key) if is_there else None
        found[table, key] = row
    return row


def add(session: Session, row: Row, key: tuple[Any, ...]) -> None:
    """A new row with that primary key, which find() finds from now on; it is written with the
    others of its transaction."""
    session.add(row)
    remember(session, row, key)


def _known(session: Session) -> Known:
    found: Known = session.info.setdefault(KNOWN, {})
    return found


@cache
def _presence(table: type[DeclarativeBase]) -> Select[Any]:
    """Far cheaper than to load a row that is mostly not there."""
    columns = inspect(table).primary_key
    keys = [column == bindparam(f"key_{place}") for place, column in enumerate(columns)]
    return select(literal(1)).select_from(table).where(*keys)
