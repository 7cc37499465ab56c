"""Events that the embedder takes."""

from functools import partial

from services.embedder.adapters.batching import PassageBatcher
from services.embedder.handlers import embed_version
from tidemill import topics
from tidemill.bus import Bus

BATCH = 16
"""Versions that share calls of the model server and a transaction."""


def subscribe(bus: Bus, passages: PassageBatcher, *, version_seconds: float) -> None:
    """version_seconds: for all chunks of one version; each waits for those before it."""
    bus.subscribe(
        topics.DOCUMENTS_CHUNKED,
        partial(embed_version, passages),
        timeout=BATCH * version_seconds,
        batch=BATCH,
    )
