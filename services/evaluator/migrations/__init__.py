"""How the tables of the evaluator came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("evaluator", Path(__file__).parent)
