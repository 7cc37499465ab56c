"""Removes originals that no version in force needs: a crash or an outage of the store left them."""

from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.ingest.adapters.originals import PREFIX, Originals, name_of
from services.ingest.adapters.store import DocumentRow
from tidemill.clock import Clock
from tidemill.db import Database

log = structlog.get_logger()

MIN_AGE = timedelta(hours=1)
"""An original comes before its version; so long after it the version is there, or the submission
is tried again and puts it again."""


@dataclass(frozen=True)
class Sweeping:
    """What it works with."""

    database: Database
    originals: Originals
    clock: Clock


async def sweep_originals(parts: Sweeping) -> int:
    """How many were removed."""
    before = (parts.clock.now() - MIN_AGE).timestamp()
    # Originals first: what is put after this look is younger than MIN_AGE anyhow.
    old = await parts.originals.store.folders_before(PREFIX, before)
    needed = await parts.database.read(names_in_force)
    orphans = [name for name in old if name not in needed]
    for name in orphans:
        await parts.originals.drop(name)
    if orphans:
        log.warning("originals_swept", count=len(orphans))
    return len(orphans)


def names_in_force(session: Session) -> set[str]:
    query = select(
        DocumentRow.tenant_id,
        DocumentRow.document_id,
        DocumentRow.event_id,
        DocumentRow.content_hash,
    ).where(DocumentRow.content_hash != "")
    return {name_of(*row) for row in session.execute(query).yield_per(1_000)}
