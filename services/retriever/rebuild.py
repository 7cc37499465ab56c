"""How the retriever's store follows from the log."""

from functools import partial
from pathlib import Path

from services.retriever.adapters.store import Base
from services.retriever.handlers import rebuilding
from services.retriever.handlers.indexing import retake_embedded, take_retired
from services.retriever.migrations import MIGRATIONS
from services.retriever.settings import RetrieverSettings
from tidemill import topics
from tidemill.rebuild.plan import Input, Plan, Stage


def plan(stage: Stage) -> Plan:
    """Rows from the chunks and withdrawals; the vector file from the rows."""
    address = stage.settings.milvus_address
    new = stage.folder / "milvus.db" if address.endswith(".db") else None
    settle = partial(rebuilding.settle, stage.bus, stage.clock, RetrieverSettings(), new)
    return Plan(
        migrations=MIGRATIONS,
        tables=Base.metadata,
        phases=(
            (
                Input(topics.CHUNKS_EMBEDDED, partial(retake_embedded, stage.bus)),
                Input(topics.DOCUMENTS_RETIRED, take_retired),
            ),
        ),
        digests=rebuilding.digests,
        settle=settle,
        wanted=rebuilding.wanted,
        beside=((new, Path(address)),) if new else (),
    )
