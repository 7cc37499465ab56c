"""When the refusal that a document shows was submitted, so that an older one that comes again does
not take its place.

The release before writes documents without it.
"""

import sqlalchemy as sa
from alembic.operations import Operations

from tidemill.db.migrations import add_missing_column

revision = "ingest_2"
down_revision = "ingest_1"


def upgrade(op: Operations) -> None:
    column = sa.Column("rejected_time", sa.DateTime(timezone=True))
    add_missing_column(op, "documents", column)


def downgrade(op: Operations) -> None:
    op.drop_column("documents", "rejected_time")
