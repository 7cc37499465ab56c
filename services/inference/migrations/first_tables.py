"""The first tables of inference.

A store that was made before there were revisions has them already.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "inference_1"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "answers",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("prompt_version", sa.String(length=200), nullable=False),
        sa.Column("adapter", sa.String(length=200), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("citations", sa.JSON(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("refusal_reason", sa.String(length=200), nullable=False),
        sa.Column("finish_reason", sa.String(length=200), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("duration_seconds", sa.Float(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("traceparent", sa.String(length=60), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "answer_id"),
        if_not_exists=True,
    )
    op.create_table(
        "releases",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("parent_release_id", sa.String(length=200), nullable=False),
        sa.Column("prompt_version", sa.String(length=200), nullable=False),
        sa.Column("adapter", sa.String(length=200), nullable=False),
        sa.Column("adapter_uri", sa.Text(), nullable=False),
        sa.Column("adapter_hash", sa.String(length=200), nullable=False),
        sa.Column("guardrail_policy", sa.String(length=200), nullable=False),
        sa.Column("routing_policy", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("canary_share", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "release_id"),
        if_not_exists=True,
    )
    op.create_index("releases_by_state", "releases", ["state"], unique=False, if_not_exists=True)
    op.create_table(
        "requested_feedback",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("feedback_id", sa.String(length=200), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "feedback_id"),
        if_not_exists=True,
    )


def downgrade(op: Operations) -> None:
    op.drop_table("requested_feedback")
    op.drop_table("releases")
    op.drop_table("answers")
