"""A document's version in force is found without reading all versions of the tenant."""

from alembic.operations import Operations

revision = "retriever_2"
down_revision = "retriever_1"

NAME = "versions_by_document"


def upgrade(op: Operations) -> None:
    op.create_index(NAME, "versions", ["tenant_id", "document_id"], if_not_exists=True)


def downgrade(op: Operations) -> None:
    op.drop_index(NAME, "versions")
