"""Rows through SQLAlchemy: SQLite on a laptop, PostgreSQL in a cluster."""

from tidemill.db.engine import Database, open_database

__all__ = ["Database", "open_database"]
