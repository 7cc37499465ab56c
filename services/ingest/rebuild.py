"""How ingest's store follows from the log."""

from services.ingest.adapters.originals import Originals
from services.ingest.adapters.store import Base
from services.ingest.handlers import events
from services.ingest.handlers.rebuilding import Rebuilding, Told, digests
from services.ingest.migrations import MIGRATIONS
from tidemill import topics
from tidemill.artifacts import ArtifactStore
from tidemill.rebuild.plan import Input, Output, Plan, Stage


def plan(stage: Stage) -> Plan:
    """What was told first, which makes the rows; then what it was told of, as far as the log still
    has it, and what became searchable."""
    originals = Originals(ArtifactStore(stage.settings.artifacts_url))
    rebuilding = Rebuilding(stage.database, Told(), originals)
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Output(topics.DOCUMENTS_CHUNKED, rebuilding.read_chunked),
                Output(topics.DOCUMENTS_REJECTED, rebuilding.read_rejected),
                Output(topics.DOCUMENTS_RETIRED, rebuilding.read_retired),
            ),
            (
                Input(
                    topics.DOCUMENTS_SUBMITTED,
                    rebuilding.retake_submission,
                    rebuilding.leaves_submission,
                ),
                Input(
                    topics.DOCUMENTS_WITHDRAWN,
                    rebuilding.retake_withdrawal,
                    rebuilding.leaves_withdrawal,
                ),
                Input(topics.DOCUMENTS_INDEXED, events.take_indexed),
            ),
        ),
        settle=rebuilding.settle,
        digests=digests,
    )
