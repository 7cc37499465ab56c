"""Events that ingest takes."""

from functools import partial

from services.ingest.handlers import events
from services.ingest.handlers.events import Ingest
from tidemill import topics
from tidemill.bus import Bus


def subscribe(bus: Bus, ingest: Ingest, *, timeout: float) -> None:
    """timeout: seconds for one submission, its reading included."""
    # A reading may take a GiB of memory: one at a time.
    submission = partial(events.take_submission, ingest)
    bus.subscribe(topics.DOCUMENTS_SUBMITTED, submission, timeout=timeout, beside=0)
    bus.subscribe(topics.DOCUMENTS_WITHDRAWN, events.take_withdrawal, timeout=30.0)
    bus.subscribe(topics.DOCUMENTS_INDEXED, events.take_indexed, timeout=30.0)
