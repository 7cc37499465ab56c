"""Usable feedback that no run has taken is counted without reading all that was ever given."""

from alembic.operations import Operations

revision = "trainer_2"
down_revision = "trainer_1"

NAME = "feedback_by_run"


def upgrade(op: Operations) -> None:
    op.create_index(NAME, "feedback", ["state", "run_id", "tenant_id"], if_not_exists=True)


def downgrade(op: Operations) -> None:
    op.drop_index(NAME, "feedback")
