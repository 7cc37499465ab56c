"""The first tables of the evaluator.

A store that was made before there were revisions has them already.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "evaluator_1"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "canary_answers",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("duration_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "answer_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_canary_answers_release_id",
        "canary_answers",
        ["release_id"],
        unique=False,
        if_not_exists=True,
    )
    op.create_table(
        "evaluations",
        sa.Column("evaluation_id", sa.String(length=200), nullable=False),
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("candidate_id", sa.String(length=200), nullable=False),
        sa.Column("baseline_id", sa.String(length=200), nullable=False),
        sa.Column("suite_hash", sa.String(length=64), nullable=False),
        sa.Column("afresh", sa.Boolean(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("traceparent", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_evaluations_done", "evaluations", ["done"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_evaluations_tenant_id", "evaluations", ["tenant_id"], unique=False, if_not_exists=True
    )
    op.create_table(
        "ledgers",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
        if_not_exists=True,
    )
    op.create_table(
        "releases",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("parent_id", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first_epoch", sa.BigInteger(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("evaluation_id", sa.String(length=200), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("refusal_gap", sa.Float(), nullable=False),
        sa.Column("traceparent", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "release_id"),
        if_not_exists=True,
    )
    op.create_index("ix_releases_state", "releases", ["state"], unique=False, if_not_exists=True)
    op.create_table(
        "results",
        sa.Column("measurement_id", sa.String(length=200), nullable=False),
        sa.Column("sample_id", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("measurement_id", "sample_id"),
        if_not_exists=True,
    )
    op.create_table(
        "suites",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("suite_hash", sa.String(length=64), nullable=False),
        sa.Column("suite_id", sa.String(length=200), nullable=False),
        sa.Column("samples", sa.Text(), nullable=False),
        sa.Column("stored_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "suite_hash"),
        if_not_exists=True,
    )
    op.create_table(
        "thumbs",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "answer_id"),
        if_not_exists=True,
    )
    op.create_table(
        "waiting_adapters",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("adapter", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("traceparent", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "adapter"),
        if_not_exists=True,
    )


def downgrade(op: Operations) -> None:
    op.drop_table("waiting_adapters")
    op.drop_table("thumbs")
    op.drop_table("suites")
    op.drop_table("results")
    op.drop_table("releases")
    op.drop_table("ledgers")
    op.drop_table("evaluations")
    op.drop_table("canary_answers")
