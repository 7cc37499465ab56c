"""How inference reads its answers back when its rows are built again; it asks no model."""

from services.inference.adapters.store import AnswerRow, FeedbackRow, ReleaseRow
from services.inference.handlers.feedback import feedback_row
from services.inference.handlers.recording import answer_values
from tidemill.api.events.v1 import AnswerGenerated, FeedbackRecorded
from tidemill.bus import UnitOfWork
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.db import Database
from tidemill.ids import is_derived
from tidemill.rebuild.digests import table_hash

PREFIX = "fb_"


def restore_answer(message: AnswerGenerated, record: Record, unit: UnitOfWork) -> None:
    values = answer_values(message, record.headers.get(TRACEPARENT, ""))
    unit.session.merge(AnswerRow(**values))


def restore_feedback(message: FeedbackRecorded, record: Record, unit: UnitOfWork) -> None:
    """The request behind it, if it named itself; the first one stands."""
    if not is_requested(message.feedback_id):
        return
    if unit.session.get(FeedbackRow, (unit.tenant_id, message.feedback_id)) is None:
        unit.session.add(feedback_row(unit.tenant_id, message))


def is_requested(feedback_id: str) -> bool:
    """True for an id that was derived from a request's; any other was chosen by chance."""
    return feedback_id.startswith(PREFIX) and is_derived(feedback_id.removeprefix(PREFIX))


async def digests(database: Database) -> dict[str, str]:
    """Answers, the releases with their states, and the feedback requests that were taken."""
    return await database.read(
        lambda session: {
            "answers": table_hash(session, AnswerRow, ("traceparent",)),
            "feedback": table_hash(session, FeedbackRow),
            "releases": table_hash(session, ReleaseRow),
        }
    )
