"""How the tables of the monitor came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("monitor", Path(__file__).parent)
