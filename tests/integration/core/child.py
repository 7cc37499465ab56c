"""The service of parts.py as a process: python -m tests.integration.core.child HOME PORT KAFKA.

With a fourth argument it waits that many seconds inside each delivery before it applies it.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.core.parts import Base, record_effect
from tests.tables import create_tables
from tidemill import topics
from tidemill.api.events.v1 import DocumentSubmitted
from tidemill.bus import Delivery
from tidemill.runtime import Runtime, running
from tidemill.settings import MeshSettings
from tidemill.telemetry.logging import configure_logging


async def serve(settings: MeshSettings, pause: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def slowly(message: DocumentSubmitted, delivery: Delivery) -> None:
        await asyncio.sleep(pause)
        await record_effect(message, delivery)

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        await create_tables(runtime.database, Base.metadata)
        runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, slowly)
        yield

    async with running("ingest", settings, lifespan):
        await stop.wait()


def main() -> None:
    home, port_base, kafka, *rest = sys.argv[1:]
    configure_logging("ingest", "INFO")
    settings = MeshSettings(home=Path(home), port_base=int(port_base), kafka=kafka)
    asyncio.run(serve(settings, float(rest[0]) if rest else 0.0))


if __name__ == "__main__":
    main()
