"""How inference reads its answers back when its rows are built again; it asks no model."""

from services.inference.adapters.store import AnswerRow, FeedbackRow, ReleaseRow
from services.inference.handlers.feedback import feedback_row
from services.inference.handlers.recording import answer_row
from tidemill.api.events.v1 import AnswerGenerated, FeedbackRecorded
from tidemill.bus import Unit
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.db import Database
from tidemill.ids import is_derived
from tidemill.rebuild.digests import table_hash

PREFIX = "fb_"


async def restore_answer(message: AnswerGenerated, record: Record, unit: Unit) -> None:
    await unit.session.merge(answer_row(message, record.headers.get(TRACEPARENT, "")))


async def restore_feedback(message: FeedbackRecorded, record: Record, unit: Unit) -> None:
    """The request behind it, if it named itself; the first one stands."""
    if not is_requested(message.feedback_id):
        return
    if await unit.session.get(FeedbackRow, (unit.tenant_id, message.feedback_id)) is None:
        unit.session.add(feedback_row(unit.tenant_id, message))


def is_requested(feedback_id: str) -> bool:
    """True for an id that was derived from a request's; any other was chosen by chance."""
    return feedback_id.startswith(PREFIX) and is_derived(feedback_id.removeprefix(PREFIX))


async def digests(database: Database) -> dict[str, str]:
    """Answers, the releases with their states, and the feedback requests that were taken."""
    async with database.session() as session:
        return {
            "answers": await table_hash(session, AnswerRow, ("traceparent",)),
            "feedback": await table_hash(session, FeedbackRow),
            "releases": await table_hash(session, ReleaseRow),
        }
