"""Events that the embedder takes."""

from functools import partial

from services.embedder.adapters.model import Embedding
from services.embedder.handlers import embed_version
from tidemill import topics
from tidemill.bus import Bus


def subscribe(
    bus: Bus, embedding: Embedding, *, batch_seconds: float, version_seconds: float
) -> None:
    """Times in seconds: for one batch, and for all chunks of a version."""
    # The model server gets one version's chunks at a time.
    handler = partial(embed_version, embedding, batch_seconds)
    bus.subscribe(topics.DOCUMENTS_CHUNKED, handler, timeout=version_seconds, beside=0)
