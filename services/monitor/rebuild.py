"""How the monitor's store follows from the log."""

from datetime import timedelta
from functools import partial

from opentelemetry.metrics import NoOpMeter

from services.monitor.adapters.figures import Figures
from services.monitor.adapters.tables import Base
from services.monitor.handlers import counting, rebuilding, stopping
from services.monitor.handlers.parts import Parts
from services.monitor.migrations import MIGRATIONS
from services.monitor.settings import Settings
from tidemill import topics
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """Alerts and budgets as they were told, so that no alert is new; then the counts."""
    settings = Settings()
    parts = Parts(
        bus=stage.bus,
        database=stage.database,
        clock=stage.clock,
        # The endpoint counts since its process started.
        figures=Figures(NoOpMeter("tidemill"), settings.max_tenant_labels),
        drift=settings.drift,
        share=settings.share,
        keep_seconds=timedelta(days=settings.keep_answers_days).total_seconds(),
    )
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Output(topics.ALERTS_RAISED, rebuilding.restore_alert),
                Output(topics.BUDGETS_SET, rebuilding.restore_budget),
            ),
            (
                Input(topics.ANSWERS_GENERATED, partial(counting.count_answer, parts=parts)),
                Input(topics.FEEDBACK_RECORDED, partial(counting.count_thumb, parts=parts)),
                Input(topics.CONSUMERS_STOPPED, partial(stopping.tell_stop, parts=parts)),
            ),
        ),
        digests=rebuilding.digests,
        settle=partial(rebuilding.settle, parts),
        wanted=rebuilding.wanted,
    )
