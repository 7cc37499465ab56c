"""How the trainer's store follows from the log."""

from datetime import timedelta
from functools import partial

from opentelemetry.metrics import NoOpMeter

from services.trainer.adapters.store import Base
from services.trainer.consumer import on_answer_generated, on_feedback_recorded
from services.trainer.domain.dataset import Limits
from services.trainer.handlers import rebuilding
from services.trainer.handlers.feedback import FeedbackMeter
from services.trainer.migrations import MIGRATIONS
from services.trainer.settings import TrainerSettings
from tidemill import topics
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """Signals first, then the runs that took them."""
    settings, meter = TrainerSettings(), FeedbackMeter(NoOpMeter("tidemill"))
    wait = timedelta(hours=settings.wait_hours)
    limits = Limits(settings.max_examples, settings.max_user_share)
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Input(topics.ANSWERS_GENERATED, partial(on_answer_generated, meter=meter)),
                Input(topics.FEEDBACK_RECORDED, partial(on_feedback_recorded, meter=meter)),
            ),
            (Output(topics.RUNS_CHANGED, rebuilding.restore_run),),
        ),
        digests=partial(rebuilding.digests, limits=limits),
        settle=partial(rebuilding.settle, stage.database, stage.clock, wait, meter),
    )
