"""Events that ingest takes."""

from functools import partial

from services.ingest.handlers import events
from services.ingest.handlers.events import Ingest
from tidemill import topics
from tidemill.bus import Bus

SUBMISSIONS = 16
"""Submissions that share a transaction. One is read at a time: that may take a GiB of memory."""
BATCH = 200


def subscribe(bus: Bus, ingest: Ingest, *, timeout: float) -> None:
    """timeout: seconds for one submission, its reading included; each waits for those before."""
    submission = partial(events.take_submission, ingest)
    bus.subscribe(
        topics.DOCUMENTS_SUBMITTED,
        submission,
        timeout=SUBMISSIONS * timeout,
        batch=SUBMISSIONS,
        look_first=False,
    )
    withdrawal, indexed = partial(events.take_withdrawal, ingest), events.take_indexed
    bus.subscribe(topics.DOCUMENTS_WITHDRAWN, withdrawal, batch=BATCH, look_first=False)
    bus.subscribe(topics.DOCUMENTS_INDEXED, indexed, batch=BATCH, look_first=False)
