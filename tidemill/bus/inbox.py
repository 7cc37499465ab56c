"""What a consumer is done with, asked before and written inside each transaction."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tidemill.bus.tables import InboxRow
from tidemill.db.rivals import rival_won

APPLIED = "applied"
DEAD = "dead"


@dataclass(frozen=True)
class Claim:
    """Which event of which consumer, and which replay of it (0 at first)."""

    consumer: str
    tenant_id: str
    event_id: str
    replay: int

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.consumer, self.tenant_id, self.event_id)


async def find(session: AsyncSession, claim: Claim) -> InboxRow | None:
    return await session.get(InboxRow, claim.key)


def is_done(row: InboxRow | None, claim: Claim) -> bool:
    """True when the event was applied, or died and this is no newer replay of it."""
    if row is None:
        return False
    return row.outcome == APPLIED or claim.replay <= row.replay


async def mark(
    session: AsyncSession, claim: Claim, outcome: str, at: datetime, *, row: InboxRow | None
) -> None:
    """Write the outcome; a dead event's row, if it has one, is taken over by its replay.

    A rival that wrote the row first, such as the partition's next owner after a rebalance, makes
    this a retryable fault: the next try finds the event done.
    """
    # The handler's own rows first: an error in them is not a rival's.
    await session.flush()
    if row is None:
        row = InboxRow(consumer=claim.consumer, tenant_id=claim.tenant_id, event_id=claim.event_id)
        session.add(row)
    row.outcome, row.replay, row.done_at = outcome, claim.replay, at
    try:
        await session.flush()
    except IntegrityError as error:
        raise rival_won() from error


async def count_dead(session: AsyncSession) -> int:
    query = select(func.count()).select_from(InboxRow).where(InboxRow.outcome == DEAD)
    return (await session.scalars(query)).one()
