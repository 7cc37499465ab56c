"""The first tables of the monitor.

A store that was made before there were revisions has them already.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "monitor_1"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "alerts",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("alert_id", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("place"),
        sa.UniqueConstraint("tenant_id", "alert_id"),
        if_not_exists=True,
    )
    op.create_table(
        "answers",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("production", sa.Boolean(), nullable=False),
        sa.Column("counted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "answer_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_answers_counted_at", "answers", ["counted_at"], unique=False, if_not_exists=True
    )
    op.create_table(
        "budgets",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("budget_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
        if_not_exists=True,
    )
    op.create_table(
        "drift",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("tested", sa.BigInteger(), nullable=False),
        sa.Column("alarmed", sa.Boolean(), nullable=False),
        sa.Column("permits_left", sa.Float(), nullable=False),
        sa.Column("permits_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
        if_not_exists=True,
    )
    op.create_table(
        "latencies",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "release_id", "bucket"),
        if_not_exists=True,
    )
    op.create_table(
        "questions",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "place"),
        if_not_exists=True,
    )
    op.create_table(
        "spend",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day"),
        if_not_exists=True,
    )
    op.create_table(
        "thumbs",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("answer_id", sa.String(length=200), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False),
        sa.Column("counted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "answer_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_thumbs_counted_at", "thumbs", ["counted_at"], unique=False, if_not_exists=True
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "release_id"),
        if_not_exists=True,
    )
    op.create_table(
        "watches",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("release_id", sa.String(length=200), nullable=False),
        sa.Column("metric", sa.String(length=200), nullable=False),
        sa.Column("reference_n", sa.Integer(), nullable=False),
        sa.Column("reference_k", sa.Integer(), nullable=False),
        sa.Column("window_n", sa.Integer(), nullable=False),
        sa.Column("window_k", sa.Integer(), nullable=False),
        sa.Column("window_started_at", sa.Float(), nullable=False),
        sa.Column("alarmed", sa.Boolean(), nullable=False),
        sa.Column("permits_left", sa.Float(), nullable=False),
        sa.Column("permits_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "release_id", "metric"),
        if_not_exists=True,
    )


def downgrade(op: Operations) -> None:
    op.drop_table("watches")
    op.drop_table("usage")
    op.drop_table("thumbs")
    op.drop_table("spend")
    op.drop_table("questions")
    op.drop_table("latencies")
    op.drop_table("drift")
    op.drop_table("budgets")
    op.drop_table("answers")
    op.drop_table("alerts")
