"""What a consumer is done with, asked before and written inside each transaction."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tidemill.bus.envelope import ANY_SOURCE
from tidemill.bus.tables import InboxRow
from tidemill.db.rivals import rival_won

APPLIED = "applied"
REJECTED = "rejected"
"""Applied too: its effect is that the sender hears why the event was not accepted."""
DEAD = "dead"
RECEIVED_REPLAY = -1
"""Replay of a dead row whose event is only being tried again. It is done with for nobody, the
release before included, which would skip an event with an outcome that it does not know."""

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Claim:
    """Which event of which consumer, and which replay of it (0 at first)."""

    consumer: str
    tenant_id: str
    source: str
    event_id: str
    replay: int

    @property
    def key(self) -> Key:
        return (self.consumer, self.event_id, self.tenant_id, self.source)


@dataclass(frozen=True)
class Done:
    """What became of an event. reason: why it was rejected or dead-lettered."""

    source: str
    outcome: str
    replay: int
    reason: str
    done_at: datetime


@dataclass(frozen=True)
class Mark:
    """An outcome to be written. before: that of an earlier replay, which it takes over."""

    claim: Claim
    outcome: str
    reason: str
    at: datetime
    before: Done | None


_OUTCOME = (InboxRow.outcome, InboxRow.replay, InboxRow.reason, InboxRow.done_at)
_FIND = select(InboxRow.event_id, InboxRow.tenant_id, InboxRow.source, *_OUTCOME).where(
    InboxRow.consumer == bindparam("consumer"),
    InboxRow.event_id.in_(bindparam("events", expanding=True)),
)
_UPDATE = (
    update(InboxRow)
    .where(
        InboxRow.consumer == bindparam("of_consumer"),
        InboxRow.event_id == bindparam("of_event"),
        InboxRow.tenant_id == bindparam("of_tenant"),
        InboxRow.source == bindparam("of_source"),
    )
    .values(
        outcome=bindparam("new_outcome"),
        replay=bindparam("new_replay"),
        reason=bindparam("new_reason"),
        done_at=bindparam("new_done_at"),
    )
)


def find_all(session: Session, claims: Sequence[Claim]) -> dict[Key, Done]:
    """What is known of these events, by the keys of their claims."""
    events: dict[str, list[str]] = defaultdict(list)
    for claim in claims:
        events[claim.consumer].append(claim.event_id)
    rows: dict[Key, Done] = {}
    for consumer, ids in events.items():
        for row in session.execute(_FIND, {"consumer": consumer, "events": ids}):
            done = Done(row.source, row.outcome, row.replay, row.reason, row.done_at)
            rows[consumer, row.event_id, row.tenant_id, row.source] = done
    found = {}
    for claim in claims:
        known = rows.get(claim.key) or rows.get((*claim.key[:3], ANY_SOURCE))
        if known is not None:
            found[claim.key] = known
    return found


def find(session: Session, claim: Claim) -> Done | None:
    return find_all(session, [claim]).get(claim.key)


def is_done(done: Done | None, claim: Claim) -> bool:
    """True when the event was applied, or dead-lettered and this is no newer replay of it."""
    if done is None:
        return False
    return done.outcome != DEAD or claim.replay <= done.replay


def mark_all(session: Session, marks: Sequence[Mark]) -> None:
    """Write the outcomes; a dead event's row is taken over by its replay.

    A rival that wrote a row first, such as the partition's next owner after a rebalance, makes
    this a retryable fault: the next try finds the event done.
    """
    new = [_new_row(mark) for mark in marks if mark.before is None]
    known = [_changed_row(mark) for mark in marks if mark.before is not None]
    connection = session.connection()
    if known:
        connection.execute(_UPDATE, known)
    if new:
        try:
            connection.execute(insert(InboxRow), new)
        except IntegrityError as error:
            raise rival_won() from error


def note_received(session: Session, claim: Claim, reason: str, at: datetime) -> None:
    """Keep why the event is not done yet, unless something is known of it."""
    if find(session, claim) is None:
        received = replace(claim, replay=RECEIVED_REPLAY)
        mark_all(session, [Mark(received, DEAD, reason, at, None)])


def _new_row(mark: Mark) -> dict[str, object]:
    claim = mark.claim
    return {
        "consumer": claim.consumer,
        "event_id": claim.event_id,
        "tenant_id": claim.tenant_id,
        "source": claim.source,
        "outcome": mark.outcome,
        "replay": claim.replay,
        "reason": mark.reason,
        "done_at": mark.at,
    }


def _changed_row(mark: Mark) -> dict[str, object]:
    claim, before = mark.claim, mark.before
    return {
        "of_consumer": claim.consumer,
        "of_event": claim.event_id,
        "of_tenant": claim.tenant_id,
        "of_source": before.source if before else claim.source,
        "new_outcome": mark.outcome,
        "new_replay": claim.replay,
        "new_reason": mark.reason,
        "new_done_at": mark.at,
    }


def count_dead(session: Session) -> int:
    dead = InboxRow.outcome == DEAD, InboxRow.replay > RECEIVED_REPLAY
    query = select(func.count()).select_from(InboxRow).where(*dead)
    return session.scalars(query).one()


def forget(session: Session, before: datetime, most: int) -> int:
    """Drop the oldest rows that were written before; returns how many, at most that many."""
    old = select(InboxRow.done_at).where(InboxRow.done_at < before).order_by(InboxRow.done_at)
    times = session.scalars(old.limit(most)).all()
    if not times:
        return 0
    gone = session.connection().execute(delete(InboxRow).where(InboxRow.done_at <= times[-1]))
    return int(gone.rowcount)
