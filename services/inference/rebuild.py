"""How inference's store follows from the log."""

from functools import partial

from services.inference.adapters.release_book import ReleaseBook
from services.inference.adapters.store import Base
from services.inference.consumer import on_release_changed
from services.inference.handlers import rebuilding
from services.inference.migrations import MIGRATIONS
from tidemill import topics
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """Answers and feedback as they were recorded, releases as they changed."""
    book = ReleaseBook(stage.database, stage.clock)
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Output(topics.ANSWERS_GENERATED, rebuilding.restore_answer),
                Output(topics.FEEDBACK_RECORDED, rebuilding.restore_feedback),
                Input(topics.RELEASES_CHANGED, partial(on_release_changed, book=book)),
            ),
        ),
        digests=rebuilding.digests,
    )
