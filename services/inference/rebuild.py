"""How inference's store follows from the log."""

from functools import partial

from opentelemetry.trace import get_tracer

from services.inference.adapters.release_book import ReleaseBook
from services.inference.adapters.store import Base
from services.inference.consumer import on_feedback_submitted, on_release_changed
from services.inference.handlers import rebuilding
from services.inference.handlers.feedback import FeedbackTaking
from services.inference.migrations import MIGRATIONS
from tidemill import topics
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """Answers and feedback as they were recorded, releases as they changed; then what became of the
    submissions that the log still has, whose senders may ask."""
    book = ReleaseBook(stage.database, stage.clock)
    taking = FeedbackTaking(stage.database, stage.bus, stage.clock, get_tracer(__name__))
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Output(topics.ANSWERS_GENERATED, rebuilding.restore_answer),
                Output(topics.FEEDBACK_RECORDED, rebuilding.restore_feedback),
                Input(topics.RELEASES_CHANGED, partial(on_release_changed, book=book)),
            ),
            (Input(topics.FEEDBACK_SUBMITTED, partial(on_feedback_submitted, taking=taking)),),
        ),
        digests=rebuilding.digests,
    )
