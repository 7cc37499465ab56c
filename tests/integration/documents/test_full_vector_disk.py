"""The disk under the vectors is full: versions wait, searches are answered, and work goes on by
itself."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from services.retriever.app import lifespan as retriever
from tests.conftest import retried
from tests.integration.documents.outside import Outside
from tests.integration.documents.test_outages import finds
from tests.outages.small_disk import fill
from tests.outages.small_disk import small_disk as small_disk
from tests.unit.retriever.world import embedded
from tests.waiting import eventually
from tidemill import topics
from tidemill.bus.dead_letters.actions import list_dead_letters
from tidemill.runtime import Runtime

MOST_VERSIONS = 150
APART_SECONDS = 0.2


async def published_until_refused(outside: Outside, runtime: Runtime) -> list[str]:
    """The texts published, each on its own, until the full disk refuses one.

    Versions that arrive together are one write, and a small one still fits in the open file.
    """
    texts: list[str] = []
    while not await retried(runtime, "DEPENDENCY_UNAVAILABLE"):
        assert len(texts) < MOST_VERSIONS, "the full disk refused nothing"
        texts.append(f"text {len(texts)}")
        event = embedded("harbor", texts[-1], 1, [texts[-1]])
        await outside.publish(topics.CHUNKS_EMBEDDED, texts[-1], event)
        await asyncio.sleep(APART_SECONDS)
    return texts


# milvus-lite leaves a file open when it finds no room for it; collected here, not in another test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(120)
async def test_versions_wait_for_room_under_the_vectors(
    settings: Any, run_service: Any, outside: Outside, small_disk: Path
) -> None:
    settings = settings.model_copy(update={"milvus": str(small_disk / "milvus.db")})
    async with run_service("retriever", settings, retriever) as runtime:
        await outside.publish(topics.CHUNKS_EMBEDDED, "d", embedded("harbor", "d", 1, ["first"]))
        await eventually(lambda: finds(outside, "first"))
        ballast = fill(small_disk)
        texts = await published_until_refused(outside, runtime)
        assert await finds(outside, "first")
        ballast.unlink()
        for text in texts:
            await eventually(lambda text=text: finds(outside, text))
    async with run_service("retriever", settings, retriever):
        for text in ["first", *texts]:
            await eventually(lambda text=text: finds(outside, text))
    assert await list_dead_letters(settings.kafka_address) == []
    gc.collect()
