"""How the tables of the trainer came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("trainer", Path(__file__).parent)
