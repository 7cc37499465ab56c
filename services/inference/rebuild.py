"""How inference's store follows from the log."""

from services.inference.adapters.store import Base
from services.inference.consumer import on_release_changed
from services.inference.handlers import rebuilding
from services.inference.migrations import MIGRATIONS
from tidemill import topics
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """Answers and feedback as they were recorded, releases as they changed."""
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Output(topics.ANSWERS_GENERATED, rebuilding.restore_answer),
                Output(topics.FEEDBACK_RECORDED, rebuilding.restore_feedback),
                Input(topics.RELEASES_CHANGED, on_release_changed),
            ),
        ),
        digests=rebuilding.digests,
    )
