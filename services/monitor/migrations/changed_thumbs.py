"""Where a thumb counts, so that a later one on the same answer can take it back.

The release before writes both tables without these columns.
"""

import sqlalchemy as sa
from alembic.operations import Operations

from tidemill.db.migrations import add_missing_column

revision = "monitor_2"
down_revision = "monitor_1"

ADDED = (("thumbs", "counted_in", "-1"), ("watches", "windows", "0"))
"""Table, column, and what a row has that was written without it."""


def upgrade(op: Operations) -> None:
    for table, name, default in ADDED:
        column = sa.Column(name, sa.Integer(), server_default=default, nullable=False)
        add_missing_column(op, table, column)


def downgrade(op: Operations) -> None:
    for table, name, _ in reversed(ADDED):
        op.drop_column(table, name)
