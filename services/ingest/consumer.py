"""Events that ingest takes."""

from functools import partial

from services.ingest.handlers import events
from services.ingest.handlers.events import Ingest
from tidemill import topics
from tidemill.bus import Bus


def subscribe(bus: Bus, ingest: Ingest, *, timeout: float) -> None:
    """timeout: seconds for one submission, its reading included."""
    bus.subscribe(
        topics.DOCUMENTS_SUBMITTED, partial(events.take_submission, ingest), timeout=timeout
    )
    bus.subscribe(topics.DOCUMENTS_WITHDRAWN, events.take_withdrawal, timeout=30.0)
    bus.subscribe(topics.DOCUMENTS_INDEXED, events.take_indexed, timeout=30.0)
