"""The first tables of the trainer.

A store that was made before there were revisions has them already.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "trainer_1"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "answers",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("user_hash", sa.String(length=200), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("passages", sa.Text(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("evaluation", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "answer_id"),
        if_not_exists=True,
    )
    op.create_table(
        "feedback",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("feedback_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("unanswerable", sa.Boolean(), nullable=False),
        sa.Column("document_ids", sa.Text(), nullable=False),
        sa.Column("other", sa.String(length=200), nullable=False),
        sa.Column("recorded_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("traceparent", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "feedback_id"),
        if_not_exists=True,
    )
    op.create_index(
        "feedback_by_answer",
        "feedback",
        ["tenant_id", "answer_id"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(
        "feedback_by_other", "feedback", ["tenant_id", "other"], unique=False, if_not_exists=True
    )
    op.create_index(
        "feedback_by_state",
        "feedback",
        ["tenant_id", "state", "recorded_time"],
        unique=False,
        if_not_exists=True,
    )
    op.create_table(
        "lineage",
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("feedback_id", sa.String(length=200), nullable=False),
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "feedback_id"),
        if_not_exists=True,
    )
    op.create_index(
        "lineage_by_feedback",
        "lineage",
        ["tenant_id", "feedback_id"],
        unique=False,
        if_not_exists=True,
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=80), nullable=False),
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("adapter", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=80), nullable=False),
        sa.Column("dataset_hash", sa.String(length=64), nullable=False),
        sa.Column("supervised_examples", sa.Integer(), nullable=False),
        sa.Column("preference_pairs", sa.Integer(), nullable=False),
        sa.Column("base_version", sa.String(length=80), nullable=False),
        sa.Column("steps_done", sa.Integer(), nullable=False),
        sa.Column("steps_planned", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("traceparent", sa.String(length=80), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
        sa.UniqueConstraint("adapter"),
        sa.UniqueConstraint("tenant_id", "number"),
        if_not_exists=True,
    )


def downgrade(op: Operations) -> None:
    op.drop_table("runs")
    op.drop_table("lineage")
    op.drop_table("feedback")
    op.drop_table("answers")
