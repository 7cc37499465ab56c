"""How the tables of ingest came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("ingest", Path(__file__).parent)
