"""How far back answers were forgotten, so that one which comes again after that is not counted
twice. The release before neither reads nor writes it."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "monitor_3"
down_revision = "monitor_2"


def upgrade(op: Operations) -> None:
    op.create_table(
        "forgotten",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind"),
        if_not_exists=True,
    )


def downgrade(op: Operations) -> None:
    op.drop_table("forgotten")
