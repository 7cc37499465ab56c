"""When the model server or Milvus is away, callers learn it in time and no event is lost."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.embedder.app import lifespan as embedder
from services.retriever.app import lifespan as retriever
from tests import milvus as milvus_server
from tests.integration.documents.outside import Outside
from tests.integration.triton_process import Triton
from tests.ports import free_port_base
from tests.unit.retriever.world import MODEL, embedded, vector_of
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.common.v1 import Chunk
from tidemill.api.embedder.v1 import EmbedderServiceStub, EmbedRequest
from tidemill.api.events.v1 import ChunksEmbedded, DocumentChunked
from tidemill.api.retriever.v1 import RetrieverServiceStub, SearchRequest
from tidemill.faults import Fault, Reason
from tidemill.rpc import call

AWAY = (Reason.DEPENDENCY_UNAVAILABLE, Reason.DEADLINE_EXCEEDED)
StartMilvus = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[tuple[str, StartMilvus]]:
    """Address of a Milvus server, and how to start it, again and again on the same data."""
    port = free_port_base()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(milvus_server.start(tmp_path / "milvus", port))
        return started[-1]

    yield f"http://127.0.0.1:{port}", start
    for process in started:
        process.kill()
        process.wait(timeout=20)


async def find(outside: Outside, text: str) -> list[str]:
    request = SearchRequest(vector=vector_of(text), embedding_model=MODEL)
    stub = RetrieverServiceStub(outside.channels.to("retriever"))
    answer = await call(stub.Search, request, token=outside.token, timeout=5.0)
    return [found.chunk.text for found in answer.chunks]


async def finds(outside: Outside, text: str) -> bool:
    try:
        return text in await find(outside, text)
    except Fault as fault:
        if fault.reason not in AWAY:
            raise
        return False


async def test_events_wait_for_milvus_and_searches_say_that_it_is_away(
    milvus: tuple[str, StartMilvus], settings: Any, run_service: Any, outside: Outside
) -> None:
    address, start = milvus
    settings = settings.model_copy(update={"milvus": address})
    async with run_service("retriever", settings, retriever):
        first = embedded("harbor", "d", 1, ["first text"])
        await outside.publish(topics.CHUNKS_EMBEDDED, "d", first)
        process = start()
        await eventually(lambda: finds(outside, "first text"))

        process.kill()
        process.wait(timeout=20)
        began = time.monotonic()
        with pytest.raises(Fault) as away:
            await find(outside, "first text")
        assert away.value.reason in AWAY
        assert time.monotonic() - began < 6.0
        second = embedded("harbor", "e", 1, ["second text"])
        await outside.publish(topics.CHUNKS_EMBEDDED, "e", second)

        start()
        await eventually(lambda: finds(outside, "second text"))
        assert await finds(outside, "first text")
    assert await outside.read(topics.CHUNKS_EMBEDDED.dead_letter_name) == []


async def test_events_of_another_model_are_parked(
    settings: Any, run_service: Any, outside: Outside
) -> None:
    async with run_service("retriever", settings, retriever):
        await outside.publish(topics.CHUNKS_EMBEDDED, "d", embedded("harbor", "d", 1, ["text"]))
        await eventually(lambda: finds(outside, "text"))
        other = embedded("harbor", "d", 2, ["other"])
        other.embedding_model.version = "another"
        await outside.publish(topics.CHUNKS_EMBEDDED, "d", other)

        async def parked() -> list[Any]:
            return await outside.read(topics.CHUNKS_EMBEDDED.dead_letter_name)

        letters = await eventually(parked)
        assert dict(letters[0].headers)["tidemill-reason"] == b"EMBEDDING_MODEL_MISMATCH"
        assert await finds(outside, "text")


@pytest.mark.triton
async def test_events_wait_for_the_model_server_across_a_restart_of_the_embedder(
    triton: Triton, settings: Any, run_service: Any, outside: Outside
) -> None:
    chunk = Chunk(chunk_id="c", document_id="d", version=1, text="some text")
    event = DocumentChunked(tenant_id="harbor", document_id="d", version=1, chunks=[chunk])
    nowhere = settings.model_copy(update={"triton": f"127.0.0.1:{free_port_base()}"})
    async with run_service("embedder", nowhere, embedder):
        await outside.publish(topics.DOCUMENTS_CHUNKED, "d", event)
        began = time.monotonic()
        with pytest.raises(Fault) as away:
            await call(
                EmbedderServiceStub(outside.channels.to("embedder")).Embed,
                EmbedRequest(texts=["text"]),
                token=outside.token,
                timeout=5.0,
            )
        assert away.value.reason in AWAY
        assert time.monotonic() - began < 6.0
    there = settings.model_copy(update={"triton": triton.address})
    async with run_service("embedder", there, embedder):

        async def embedded_events() -> list[Any]:
            return await outside.read(topics.CHUNKS_EMBEDDED.name)

        record = (await eventually(embedded_events))[0]
    answer = ChunksEmbedded.FromString(record.value)
    assert answer.chunks[0].chunk == chunk
    assert len(answer.chunks[0].vector) == 4 * answer.embedding_model.dimensions
    assert await outside.read(topics.DOCUMENTS_CHUNKED.dead_letter_name) == []
