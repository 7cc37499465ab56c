"""How the tables of the retriever came to be what they are."""

from pathlib import Path

from tidemill.db.migrations import Migrations

MIGRATIONS = Migrations("retriever", Path(__file__).parent)
