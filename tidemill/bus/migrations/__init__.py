"""How the tables of the bus came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("bus", Path(__file__).parent)
