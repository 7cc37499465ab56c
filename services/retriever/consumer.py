"""Events that the retriever takes."""

from functools import partial

from services.retriever.handlers.indexing import Indexing, take_embedded, take_retired
from tidemill import topics
from tidemill.bus import Bus

EMBEDDED_BATCH = 16
"""Versions whose vectors are written together; what is fetched at once bounds their bytes."""
RETIRED_BATCH = 200


def subscribe(bus: Bus, indexing: Indexing, *, timeout: float) -> None:
    """timeout: seconds for one document version; each waits for those before it."""
    embedded = partial(take_embedded, indexing)
    bus.subscribe(
        topics.CHUNKS_EMBEDDED,
        embedded,
        timeout=EMBEDDED_BATCH * timeout,
        batch=EMBEDDED_BATCH,
        look_first=False,
    )
    bus.subscribe(topics.DOCUMENTS_RETIRED, take_retired, batch=RETIRED_BATCH, look_first=False)
