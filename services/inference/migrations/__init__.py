"""How the tables of inference came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("inference", Path(__file__).parent)
