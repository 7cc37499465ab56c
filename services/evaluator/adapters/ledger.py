"""The release ledger in rows: read as a value, written under its epoch, told as events."""

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.evaluator.adapters.tables import LedgerRow, ReleaseRow
from services.evaluator.domain.releases import Change, Entry, Ledger, State
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.db.rows import get_locked
from tidemill.faults import Fault, Reason

AGGREGATE = "releases"
"""One key for all releases of a tenant, so that a reader gets their changes in order."""
CANARIES = "evaluator.canaries"
"""Of a session: the canary of each tenant that was asked for."""


@dataclass(frozen=True)
class ChangeFacts:
    """What goes with a change besides the change itself; time in seconds since the epoch."""

    at: float
    evaluation_id: str = ""
    canary_share: float = 0.0
    refusal_gap: float = 0.0


def read_ledger(session: Session, tenant_id: str, *, lock: bool = False) -> Ledger:
    """The ledger of a tenant; lock keeps other writers out until the transaction ends."""
    row = (get_locked if lock else Session.get)(session, LedgerRow, tenant_id)
    found = session.execute(
        select(ReleaseRow.release_id, ReleaseRow.parent_id, ReleaseRow.state).where(
            ReleaseRow.tenant_id == tenant_id
        )
    )
    entries = {name: Entry(name, parent, State(state)) for name, parent, state in found}
    return Ledger(row.epoch if row else 0, entries)


def add_release(unit: UnitOfWork, release: events.Release, traceparent: str = "") -> None:
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
    unit.session.flush()


def write_changes(
    unit: UnitOfWork, ledger: Ledger, changes: tuple[Change, ...], facts: ChangeFacts
) -> None:
    """Rows and events of the changes, if the ledger is still at the epoch that they follow."""
    _advance(unit.session, unit.tenant_id, ledger.epoch, changes[-1].epoch)
    for change in changes:
        row = unit.session.get_one(ReleaseRow, (unit.tenant_id, change.release_id))
        _take(row, change, facts)
        unit.publish(topics.RELEASES_CHANGED, AGGREGATE, change_event(row, facts))
    unit.session.flush()
    _look_again(unit.session)


def _advance(session: Session, tenant_id: str, epoch: int, new_epoch: int) -> None:
    if epoch == 0:
        session.add(LedgerRow(tenant_id=tenant_id, epoch=new_epoch))
        session.flush()
        return
    moved = session.execute(
        update(LedgerRow)
        .where(LedgerRow.tenant_id == tenant_id, LedgerRow.epoch == epoch)
        .values(epoch=new_epoch)
        .returning(LedgerRow.epoch)
    )
    if moved.first() is None:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="ledger")


def keep_epoch(unit: UnitOfWork, epoch: int) -> None:
    """The epoch of a change that was made before; the highest stays."""
    row = unit.session.get(LedgerRow, unit.tenant_id)
    if row is None:
        row = LedgerRow(tenant_id=unit.tenant_id, epoch=0)
        unit.session.add(row)
    row.epoch = max(row.epoch, epoch)
    _look_again(unit.session)


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


def get_release(session: Session, tenant_id: str, release_id: str) -> ReleaseRow:
    """A release that is known to exist."""
    return session.get_one(ReleaseRow, (tenant_id, release_id))


def list_releases(
    session: Session, tenant_id: str, before_epoch: int, size: int
) -> list[ReleaseRow]:
    """Newest first; before_epoch: first epoch of the last release of the page before."""
    found = session.scalars(
        select(ReleaseRow)
        .where(ReleaseRow.tenant_id == tenant_id, ReleaseRow.first_epoch < before_epoch)
        .order_by(ReleaseRow.first_epoch.desc())
        .limit(size)
    )
    return list(found)


def canaries(session: Session) -> list[ReleaseRow]:
    """The canary of every tenant that has one."""
    found = session.scalars(select(ReleaseRow).where(ReleaseRow.state == State.CANARY.value))
    return list(found)


def canary_of(session: Session, tenant_id: str) -> ReleaseRow | None:
    """The tenant's canary; its changed_at is when it began. It is looked for once a transaction,
    since every live answer asks."""
    known: dict[str, ReleaseRow | None] = session.info.setdefault(CANARIES, {})
    if tenant_id not in known:
        known[tenant_id] = session.scalar(
            select(ReleaseRow).where(
                ReleaseRow.tenant_id == tenant_id, ReleaseRow.state == State.CANARY.value
            )
        )
    return known[tenant_id]


def _look_again(session: Session) -> None:
    """A release has changed."""
    session.info.pop(CANARIES, None)
