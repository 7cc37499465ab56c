"""The first tables of the retriever.

A store that was made before there were revisions has them already.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "retriever_1"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "chunks",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("chunk_id", sa.String(length=64), nullable=False),
        sa.Column("version_key", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("headings", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "chunk_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_chunks_version_key", "chunks", ["version_key"], unique=False, if_not_exists=True
    )
    op.create_table(
        "documents",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("document_id", sa.String(length=256), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "document_id"),
        if_not_exists=True,
    )
    op.create_table(
        "indexes",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("collection", sa.String(length=64), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("model_version", sa.String(length=200), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
        if_not_exists=True,
    )
    op.create_table(
        "versions",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("version_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document_id", sa.String(length=256), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("source_uri", sa.Text(), nullable=False),
        sa.Column("chunk_count", sa.Integer(), nullable=False),
        sa.Column("staged_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("from_revision", sa.BigInteger(), nullable=True),
        sa.Column("to_revision", sa.BigInteger(), nullable=True),
        sa.Column("ended_time", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "version_key"),
        if_not_exists=True,
    )


def downgrade(op: Operations) -> None:
    op.drop_table("versions")
    op.drop_table("indexes")
    op.drop_table("documents")
    op.drop_table("chunks")
