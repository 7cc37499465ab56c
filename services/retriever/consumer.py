"""Events that the retriever takes."""

from functools import partial

from services.retriever.handlers.indexing import Indexing, take_embedded, take_retired
from tidemill import topics
from tidemill.bus import Bus


def subscribe(bus: Bus, indexing: Indexing, *, timeout: float) -> None:
    """timeout: seconds for one document version."""
    embedded = partial(take_embedded, indexing)
    bus.subscribe(topics.CHUNKS_EMBEDDED, embedded, timeout=timeout, beside=0)
    bus.subscribe(topics.DOCUMENTS_RETIRED, take_retired, timeout=30.0)
