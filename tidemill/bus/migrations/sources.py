"""Inbox rows know the source of their event and why it was dead-lettered; a position of the outbox
is never given twice.

The release before runs on these tables: what it writes has the defaults, and a row of any source
hides the event whatever its source.
"""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "bus_2"
down_revision = "bus_1"

INBOX = "consumer, event_id, tenant_id, outcome, replay, done_at"
OUTBOX = "position, topic, key, value, headers"


def upgrade(op: Operations) -> None:
    op.create_table("inbox_2", *inbox_columns(), sa.PrimaryKeyConstraint(*KEY))
    replace(op, "inbox", "inbox_2", INBOX)
    op.create_index("inbox_by_time", "inbox", ["done_at"])
    if is_file(op):
        op.create_table(
            "outbox_2", *outbox_columns(), sa.PrimaryKeyConstraint("position"),
            sqlite_autoincrement=True,
        )  # fmt: skip
        replace(op, "outbox", "outbox_2", OUTBOX)


def downgrade(op: Operations) -> None:
    """One row of each event is left: the ids of different sources are one id again."""
    op.drop_index("inbox_by_time", "inbox")
    columns = [c for c in inbox_columns() if c.name not in ("source", "reason")]
    op.create_table(
        "inbox_1", *columns, sa.PrimaryKeyConstraint("consumer", "tenant_id", "event_id")
    )
    op.execute(
        f"INSERT INTO inbox_1 ({INBOX}) SELECT consumer, event_id, tenant_id, min(outcome), "  # noqa: S608
        "max(replay), max(done_at) FROM inbox GROUP BY consumer, event_id, tenant_id"
    )
    op.drop_table("inbox")
    op.rename_table("inbox_1", "inbox")
    if is_file(op):
        op.create_table("outbox_1", *outbox_columns(), sa.PrimaryKeyConstraint("position"))
        replace(op, "outbox", "outbox_1", OUTBOX)


KEY = ("consumer", "event_id", "tenant_id", "source")


def inbox_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("consumer", sa.String(length=200), nullable=False),
        sa.Column("event_id", sa.String(length=300), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False, server_default="*"),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("replay", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=False),
    ]


def outbox_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("position", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=249), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=False),
    ]


def replace(op: Operations, old: str, new: str, columns: str) -> None:
    op.execute(f"INSERT INTO {new} ({columns}) SELECT {columns} FROM {old}")  # noqa: S608
    op.drop_table(old)
    op.rename_table(new, old)


def is_file(op: Operations) -> bool:
    return op.get_context().dialect.name == "sqlite"
