"""SQLite: one file a service."""

from typing import Any

from sqlalchemy import Engine, event

BUSY_SECONDS = 10


def tune_sqlite(engine: Engine, *, durable: bool) -> None:
    """WAL, a commit that survives a power cut, and writers that queue instead of failing."""

    @event.listens_for(engine, "connect")
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

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if wants_write(connection) else "BEGIN")


def wants_write(connection: Any) -> bool:
    return not connection.get_execution_options().get("tidemill_read_only", False)
