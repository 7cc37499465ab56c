"""The service of tests/integration/core/parts.py as a process that freezes itself at a named point:
python -m tests.outages.child HOME PORT_BASE KAFKA.

A file HOME/freeze-POINT arms a point. The first process that comes there takes the file away and
stops itself as a machine does that lost its processor: it goes on at SIGCONT.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.core.parts import Base, Effect
from tests.tables import create_tables
from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked, DocumentSubmitted
from tidemill.bus import Delivery, UnitOfWork
from tidemill.db import Database
from tidemill.runtime import Runtime, running
from tidemill.settings import MeshSettings
from tidemill.telemetry.logging import configure_logging

BEFORE, INSIDE, AFTER, RELAY = "before-apply", "inside-apply", "after-commit", "relay"
POINTS = (BEFORE, INSIDE, AFTER, RELAY)


def freeze_at(home: Path, point: str) -> None:
    try:
        (home / f"freeze-{point}").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGSTOP)


async def freeze_unlocked(database: Database, home: Path, point: str) -> None:
    """While no other task of this process is inside a transaction: it would hold up everyone."""
    async with database._writer():
        freeze_at(home, point)


async def serve(settings: MeshSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    home = settings.home

    async def record(message: DocumentSubmitted, delivery: Delivery) -> None:
        def work(unit: UnitOfWork) -> None:
            unit.session.add(Effect(event_id=delivery.event_id, tenant_id=delivery.tenant_id))
            unit.publish(topics.DOCUMENTS_CHUNKED, delivery.aggregate_id, DocumentChunked())
            unit.session.flush()
            freeze_at(home, INSIDE)

        database = delivery.commits.database
        await freeze_unlocked(database, home, BEFORE)
        await delivery.apply(work)
        await freeze_unlocked(database, home, AFTER)

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        await create_tables(runtime.database, Base.metadata)
        freeze_relay(runtime, home)
        runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, record)
        yield

    async with running("ingest", settings, lifespan):
        await stop.wait()


def freeze_relay(runtime: Runtime, home: Path) -> None:
    """Between the broker's confirmation and the delete of the rows."""
    relay: Any = runtime.bus.relay
    publish = relay._publish

    async def published(rows: Any) -> Any:
        sent = await publish(rows)
        if sent:
            await freeze_unlocked(runtime.database, home, RELAY)
        return sent

    relay._publish = published


def main() -> None:
    home, port_base, kafka = sys.argv[1:]
    configure_logging("ingest", "INFO")
    settings = MeshSettings(home=Path(home), port_base=int(port_base), kafka=kafka)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
