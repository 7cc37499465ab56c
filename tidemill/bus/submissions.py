"""What became of an event that a product service wrote to Kafka, as the inbox knows it."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from tidemill.api.common.v1 import (
    SUBMISSION_STATE_ACCEPTED,
    SUBMISSION_STATE_DEAD_LETTERED,
    SUBMISSION_STATE_RECEIVED,
    SUBMISSION_STATE_REJECTED,
    Submission,
    SubmissionState,
)
from tidemill.bus import inbox
from tidemill.bus.envelope import ANY_SOURCE
from tidemill.bus.tables import InboxRow
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE

_FIND = (
    select(InboxRow)
    .where(
        InboxRow.consumer.in_(bindparam("consumers", expanding=True)),
        InboxRow.event_id == bindparam("event_id"),
        InboxRow.tenant_id == bindparam("tenant_id"),
        InboxRow.source.in_((bindparam("source"), ANY_SOURCE)),
    )
    .order_by(InboxRow.done_at.desc())
    .limit(1)
)
_STATES = {
    inbox.APPLIED: SUBMISSION_STATE_ACCEPTED,
    inbox.REJECTED: SUBMISSION_STATE_REJECTED,
    inbox.DEAD: SUBMISSION_STATE_DEAD_LETTERED,
}


async def get_submission(
    database: Database, service: str, tenant_id: str, source: str, event_id: str
) -> Submission:
    """What became of an event of the tenant's on a topic that the service owns. source and
    event_id: its ce_source and ce_id.

    Faults: INVALID_ARGUMENT without an id; NOT_FOUND when the event was not read yet, or so long
    ago that its row is gone, or came with a token that was refused.
    """
    if not event_id:
        raise Fault(Reason.INVALID_ARGUMENT, field="event_id")
    values = {
        "consumers": consumers_of(service),
        "event_id": event_id,
        "tenant_id": tenant_id,
        "source": source,
    }

    def find(session: Session) -> Submission | None:
        row = session.scalars(_FIND, values).first()
        return None if row is None else submission_of(row)

    found = await database.read(find)
    if found is None:
        raise Fault(Reason.NOT_FOUND)
    return found


def consumers_of(service: str) -> Sequence[str]:
    """Names of the service's consumers that take submissions."""
    return [f"{service}/{t.name}" for t in CATALOGUE if t.is_submitted_to(service)]


def submission_of(row: InboxRow) -> Submission:
    message = Submission(
        source="" if row.source == ANY_SOURCE else row.source,
        event_id=row.event_id,
        topic=row.consumer.partition("/")[2],
        state=state_of(row),
        reason=row.reason,
    )
    message.update_time.FromDatetime(row.done_at)
    return message


def state_of(row: InboxRow) -> SubmissionState.ValueType:
    if row.outcome == inbox.DEAD and row.replay == inbox.RECEIVED_REPLAY:
        return SUBMISSION_STATE_RECEIVED
    return _STATES[row.outcome]
