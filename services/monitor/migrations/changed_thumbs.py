"""Where a thumb counts, so that a later one on the same answer can take it back.

The release before writes both tables without these columns.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "monitor_2"
down_revision = "monitor_1"

ADDED = (("thumbs", "counted_in", "-1"), ("watches", "windows", "0"))
"""Table, column, and what a row has that was written without it."""


def upgrade(op: Operations) -> None:
    for table, name, default in ADDED:
        # SQLite has no ADD COLUMN IF NOT EXISTS.
        known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
        if name not in known:
            column = sa.Column(name, sa.Integer(), server_default=default, nullable=False)
            op.add_column(table, column)


def downgrade(op: Operations) -> None:
    for table, name, _ in reversed(ADDED):
        op.drop_column(table, name)
