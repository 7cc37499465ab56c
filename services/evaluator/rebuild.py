"""How the evaluator's store follows from the log."""

from functools import partial

from opentelemetry.trace import NoOpTracer

from services.evaluator.adapters.serving import Serving
from services.evaluator.adapters.tables import Base
from services.evaluator.handlers import canarying, proposing, rebuilding
from services.evaluator.handlers.parts import Parts
from services.evaluator.migrations import MIGRATIONS
from services.evaluator.settings import Settings
from tidemill import topics
from tidemill.clock import Stopwatch
from tidemill.rebuild.plan import Input, Output, Plan, Stage
from tidemill.rpc import Channels


def plan(stage: Stage) -> Plan:
    """What was decided, then the adapters that nothing was decided about, then live answers."""
    settings = Settings()
    parts = Parts(
        bus=stage.bus,
        database=stage.database,
        clock=stage.clock,
        tracer=NoOpTracer(),
        serving=Serving(Channels(stage.settings), stage.identity),
        gate=settings.gate,
        canary=settings.canary,
        run=settings.run,
        release=settings.release,
        watch=Stopwatch(stage.clock),
    )
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Output(topics.SUITES_STORED, rebuilding.restore_suite),
                Output(topics.RELEASES_CHANGED, rebuilding.restore_release),
            ),
            (Output(topics.EVALUATIONS_COMPLETED, rebuilding.restore_verdict),),
            (Input(topics.ADAPTERS_TRAINED, partial(proposing.queue_adapter, parts=parts)),),
            (
                Input(topics.ANSWERS_GENERATED, partial(canarying.note_answer, parts=parts)),
                Input(topics.FEEDBACK_RECORDED, canarying.note_thumb),
            ),
        ),
        digests=rebuilding.digests,
        settle=partial(rebuilding.settle, stage.database),
    )
