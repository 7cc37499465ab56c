"""How inference reads its answers back when its rows are built again; it asks no model."""

from services.inference.adapters.store import AnswerRow, FeedbackRow, ReleaseRow
from services.inference.handlers.feedback import feedback_row, is_remembered
from services.inference.handlers.recording import answer_values
from tidemill.api.events.v1 import AnswerGenerated, FeedbackRecorded
from tidemill.bus import UnitOfWork
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.db import Database
from tidemill.rebuild.digests import table_hash


def restore_answer(message: AnswerGenerated, record: Record, unit: UnitOfWork) -> None:
    values = answer_values(message, record.headers.get(TRACEPARENT, ""))
    unit.session.merge(AnswerRow(**values))


def restore_feedback(message: FeedbackRecorded, record: Record, unit: UnitOfWork) -> None:
    """The request or submission behind it; the first one stands."""
    if not is_remembered(message.feedback_id):
        return
    if unit.session.get(FeedbackRow, (unit.tenant_id, message.feedback_id)) is None:
        unit.session.add(feedback_row(unit.tenant_id, message))


async def digests(database: Database) -> dict[str, str]:
    """Answers, the releases with their states, and the feedback requests that were taken."""
    return await database.read(
        lambda session: {
            "answers": table_hash(session, AnswerRow, ("traceparent",)),
            "feedback": table_hash(session, FeedbackRow),
            "releases": table_hash(session, ReleaseRow),
        }
    )
