"""PostgreSQL: one database for the mesh, one schema a service."""

from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 10
IDLE_SECONDS = 60
"""A frozen process loses its open transaction, and with it the locks, after this."""
POOL = 5
MOST = 10
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
UNANSWERED_MS = 20_000
SNAPSHOT = "REPEATABLE READ"
"""Of a session that only reads: one moment for all of its statements, and no rivals."""
LATEST = "READ COMMITTED"
"""Of a migration: what stands when its wait for the lock is over."""


def open_postgres(url: URL, schema: str) -> tuple[AsyncEngine, Engine]:
    """Engines whose transactions are serializable, so that code which is right with SQLite's one
    writer is right here; who loses a race tries again (decision 0013)."""
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    options = engine_options(schema)
    return create_async_engine(url, **options), create_engine(url, **options)


def engine_options(schema: str) -> dict[str, Any]:
    return {
        "isolation_level": "SERIALIZABLE",
        "pool_pre_ping": True,
        "pool_size": POOL,
        "max_overflow": MOST - POOL,
        "pool_timeout": STATEMENT_SECONDS,
        # An error's text must not hold the values of a statement: they are users' text.
        "hide_parameters": True,
        "connect_args": {
            "application_name": f"tidemill-{schema}",
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": UNANSWERED_MS,
            "options": session_options(schema),
            **KEEPALIVE,
        },
    }


def session_options(schema: str) -> str:
    """Every statement and every wait has an end, told to the server."""
    values = {
        "search_path": schema,
        "timezone": "UTC",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        # Rows are looked up by key. A scan of a small table would mark all of it as read, and
        # every other writer as a rival: seven times as many lost races (decision 0013). What lacks
        # an index is found by tests/conformance/rows/test_plans.py, which allows scans.
        "enable_seqscan": "off",
    }
    return " ".join(f"-c {name}={value}" for name, value in values.items())
