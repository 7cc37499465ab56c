"""What a consumer is done with, asked before and written inside each transaction."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tidemill.bus.tables import InboxRow

APPLIED = "applied"
DEAD = "dead"


async def is_done(session: AsyncSession, consumer: str, event_id: str, replay: int) -> bool:
    """True when the event was applied, or died and this is no newer replay of it."""
    row = await session.get(InboxRow, (consumer, event_id))
    if row is None:
        return False
    return row.outcome == APPLIED or replay <= row.replay


async def mark(
    session: AsyncSession, consumer: str, event_id: str, outcome: str, replay: int, at: datetime
) -> None:
    """Write the outcome; a dead event's row is taken over by its replay."""
    row = await session.get(InboxRow, (consumer, event_id))
    if row is None:
        row = InboxRow(consumer=consumer, event_id=event_id)
        session.add(row)
    row.outcome, row.replay, row.done_at = outcome, replay, at
    await session.flush()


async def count_dead(session: AsyncSession) -> int:
    rows = await session.scalars(select(InboxRow.event_id).where(InboxRow.outcome == DEAD))
    return len(rows.all())
