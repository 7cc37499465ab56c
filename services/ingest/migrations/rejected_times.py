"""When the refusal that a document shows was submitted, so that an older one that comes again does
not take its place.

The release before writes documents without it.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "ingest_2"
down_revision = "ingest_1"


def upgrade(op: Operations) -> None:
    # SQLite has no ADD COLUMN IF NOT EXISTS.
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("documents")}
    if "rejected_time" not in known:
        op.add_column("documents", sa.Column("rejected_time", sa.DateTime(timezone=True)))


def downgrade(op: Operations) -> None:
    op.drop_column("documents", "rejected_time")
