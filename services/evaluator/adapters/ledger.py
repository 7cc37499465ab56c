"""The release ledger in rows: read as a value, written under its epoch, told as events."""

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.evaluator.adapters.tables import LedgerRow, ReleaseRow
from services.evaluator.domain.releases import Change, Entry, Ledger, State
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus import Unit
from tidemill.db import Database
from tidemill.faults import Fault, Reason

AGGREGATE = "releases"
"""One key for all releases of a tenant, so that a reader gets their changes in order."""


@dataclass(frozen=True)
class ChangeFacts:
    """What goes with a change besides the change itself; time in seconds since the epoch."""

    at: float
    evaluation_id: str = ""
    canary_share: float = 0.0
    refusal_gap: float = 0.0


async def read_ledger(session: AsyncSession, tenant_id: str, *, lock: bool = False) -> Ledger:
    """The ledger of a tenant; lock keeps other writers out until the transaction ends."""
    row = await session.get(LedgerRow, tenant_id, with_for_update=True if lock else None)
    found = await session.execute(
        select(ReleaseRow.release_id, ReleaseRow.parent_id, ReleaseRow.state).where(
            ReleaseRow.tenant_id == tenant_id
        )
    )
    entries = {name: Entry(name, parent, State(state)) for name, parent, state in found}
    return Ledger(row.epoch if row else 0, entries)


async def add_release(unit: Unit, release: events.Release, traceparent: str = "") -> None:
    """A row for a release that a change in the same unit brings to life."""
    unit.session.add(
        ReleaseRow(
            tenant_id=release.tenant_id,
            release_id=release.release_id,
            parent_id=release.parent_release_id,
            state="",
            epoch=0,
            first_epoch=0,
            reasons=[],
            changed_at=0.0,
            content=release.SerializeToString(deterministic=True),
            traceparent=traceparent,
        )
    )
    await unit.session.flush()


async def write_changes(
    unit: Unit, ledger: Ledger, changes: tuple[Change, ...], facts: ChangeFacts
) -> None:
    """Rows and events of the changes, if the ledger is still at the epoch that they follow."""
    await _advance(unit.session, unit.tenant_id, ledger.epoch, changes[-1].epoch)
    for change in changes:
        row = await unit.session.get_one(ReleaseRow, (unit.tenant_id, change.release_id))
        _take(row, change, facts)
        unit.publish(topics.RELEASES_CHANGED, AGGREGATE, change_event(row, facts))
    await unit.session.flush()


async def _advance(session: AsyncSession, tenant_id: str, epoch: int, new_epoch: int) -> None:
    if epoch == 0:
        session.add(LedgerRow(tenant_id=tenant_id, epoch=new_epoch))
        await session.flush()
        return
    moved = await session.execute(
        update(LedgerRow)
        .where(LedgerRow.tenant_id == tenant_id, LedgerRow.epoch == epoch)
        .values(epoch=new_epoch)
        .returning(LedgerRow.epoch)
    )
    if moved.first() is None:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="ledger")


async def keep_epoch(unit: Unit, epoch: int) -> None:
    """The epoch of a change that was made before; the highest stays."""
    row = await unit.session.get(LedgerRow, unit.tenant_id)
    if row is None:
        row = LedgerRow(tenant_id=unit.tenant_id, epoch=0)
        unit.session.add(row)
    row.epoch = max(row.epoch, epoch)


def _take(row: ReleaseRow, change: Change, facts: ChangeFacts) -> None:
    row.state, row.epoch = change.state.value, change.epoch
    row.first_epoch = row.first_epoch or change.epoch
    row.reasons, row.changed_at = list(change.reasons), facts.at
    row.evaluation_id = facts.evaluation_id or row.evaluation_id
    row.refusal_gap = facts.refusal_gap or row.refusal_gap


def change_event(row: ReleaseRow, facts: ChangeFacts) -> events.ReleaseChanged:
    state = State(row.state)
    return events.ReleaseChanged(
        release=events.Release.FromString(row.content),
        state=events.ReleaseState.Value(f"RELEASE_STATE_{state}"),
        epoch=row.epoch,
        canary_share=facts.canary_share if state is State.CANARY else 0.0,
        reasons=row.reasons,
        evaluation_id=row.evaluation_id,
        changed_time=timestamp(row.changed_at),
    )


def timestamp(seconds: float) -> Timestamp:
    """Message form of seconds since the epoch."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1_000_000))
    return stamp


async def get_release(session: AsyncSession, tenant_id: str, release_id: str) -> ReleaseRow:
    """A release that is known to exist."""
    return await session.get_one(ReleaseRow, (tenant_id, release_id))


async def list_releases(
    database: Database, tenant_id: str, before_epoch: int, size: int
) -> list[ReleaseRow]:
    """Newest first; before_epoch: first epoch of the last release of the page before."""
    async with database.session() as session:
        found = await session.scalars(
            select(ReleaseRow)
            .where(ReleaseRow.tenant_id == tenant_id, ReleaseRow.first_epoch < before_epoch)
            .order_by(ReleaseRow.first_epoch.desc())
            .limit(size)
        )
        return list(found)


async def canaries(database: Database) -> list[ReleaseRow]:
    """The canary of every tenant that has one."""
    async with database.session() as session:
        found = await session.scalars(
            select(ReleaseRow).where(ReleaseRow.state == State.CANARY.value)
        )
        return list(found)


async def canary_of(session: AsyncSession, tenant_id: str) -> ReleaseRow | None:
    """The tenant's canary; its changed_at is when it began."""
    found: ReleaseRow | None = await session.scalar(
        select(ReleaseRow).where(
            ReleaseRow.tenant_id == tenant_id, ReleaseRow.state == State.CANARY.value
        )
    )
    return found
