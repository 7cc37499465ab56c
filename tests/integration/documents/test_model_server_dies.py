"""The model server's parts die and freeze under a load of documents; nothing is lost or doubled."""

import asyncio
import signal
from collections import Counter
from typing import Any

import psutil
import pytest

from services.embedder.app import lifespan as embedder
from services.ingest.app import lifespan as ingest
from tests.integration.documents.outside import Outside
from tests.integration.triton_process import Triton
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.events.v1 import ChunksEmbedded
from tidemill.bus.dead_letters.actions import list_dead_letters

DOCUMENTS = 24
FROZEN_SECONDS = 6.0
RECOVERY_SECONDS = 90.0


def server_of(triton: Triton) -> psutil.Process:
    children = psutil.Process(triton.process.pid).children()
    return next(child for child in children if "tritonserver" in child.name())


async def disturb(triton: Triton) -> None:
    """One model's process, then the whole server, is killed; in between the server freezes."""
    triton.kill_model("embedder")
    await asyncio.sleep(2.0)
    server = server_of(triton)
    server.send_signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_SECONDS)
    if server.is_running():
        server.send_signal(signal.SIGCONT)
    await asyncio.sleep(2.0)
    server_of(triton).kill()


async def submit_all(outside: Outside) -> None:
    for number in range(DOCUMENTS):
        text = f"# Guide {number}\n\nEveryone gets {number} days of leave.\n".encode()
        name = f"guide-{number}"
        await outside.submit(topics.DOCUMENTS_SUBMITTED, name, "text/markdown", text)
        await asyncio.sleep(0.5)


@pytest.mark.triton
@pytest.mark.timeout(240)
async def test_documents_are_embedded_once_while_the_model_server_dies_and_freezes(
    triton: Triton, settings: Any, run_service: Any, outside: Outside
) -> None:
    settings = settings.model_copy(update={"triton": triton.address})
    async with (
        run_service("ingest", settings, ingest),
        run_service("embedder", settings, embedder),
    ):
        await asyncio.gather(submit_all(outside), disturb(triton))

        async def embedded() -> list[Any]:
            found = await outside.read(topics.CHUNKS_EMBEDDED.name)
            return found if len(found) >= DOCUMENTS else []

        records = await eventually(embedded, RECOVERY_SECONDS)
        names = Counter(ChunksEmbedded.FromString(r.value).document_id for r in records)
    assert names == Counter(f"guide-{number}" for number in range(DOCUMENTS))
    assert await list_dead_letters(settings.kafka_address) == []
