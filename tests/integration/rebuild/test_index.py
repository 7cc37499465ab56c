"""The index is lost and comes back from the log, byte for byte."""

import shutil
from collections.abc import Sequence
from typing import Any

import pytest
from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient

from services.retriever.domain.naming import collection_name
from tests.integration.rebuild.conftest import TENANT, Mesh
from tests.integration.rebuilding import ends, lost_and_rebuilt
from tests.unit.retriever.world import MODEL, embedded, retired, vector_of
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.retriever.v1 import (
    GetIndexRequest,
    GetIndexResponse,
    RetrieverServiceStub,
    SearchRequest,
)
from tidemill.faults import Fault
from tidemill.rpc import call

PASSAGES = {
    "leave": ["Annual leave is 27 days.", "Ask your lead first."],
    "travel": ["Trains before planes."],
    "pay": ["Pay comes on the 25th."],
}


async def fill(mesh: Mesh) -> None:
    """Three documents, one of them in two versions, one withdrawn; an event that died, and one
    that died and was healed by its replay."""
    for document, texts in PASSAGES.items():
        await mesh.send(topics.CHUNKS_EMBEDDED, document, embedded(TENANT, document, 1, texts))
    newer = embedded(TENANT, "leave", 2, ["Annual leave is 30 days."])
    await mesh.send(topics.CHUNKS_EMBEDDED, "leave", newer)
    foreign = embedded("other", "poison", 1, ["x"])
    await mesh.send(topics.CHUNKS_EMBEDDED, "poison", foreign)
    died = await mesh.send(topics.CHUNKS_EMBEDDED, "healed", foreign)
    replay = {"tidemill_consumer": "retriever/chunks.embedded.v1", "tidemill_replay": "1"}
    healed = embedded(TENANT, "healed", 1, ["Replayed."])
    await mesh.send(topics.CHUNKS_EMBEDDED, "healed", healed, event_id=died, **replay)
    await mesh.grown(topics.DOCUMENTS_INDEXED, 5)
    await mesh.send(topics.DOCUMENTS_RETIRED, "pay", retired(TENANT, "pay", 2))
    await mesh.grown(topics.DOCUMENTS_INDEXED, 6)


async def index_of(mesh: Mesh) -> GetIndexResponse:
    stub = RetrieverServiceStub(mesh.channels.to("retriever"))
    token = mesh.token("documents:read", "answers:write")
    answer: GetIndexResponse = await call(stub.GetIndex, GetIndexRequest(), token=token, timeout=10)
    return answer


async def search(mesh: Mesh, text: str) -> list[Any]:
    """Hits once the index is open for searches."""
    stub = RetrieverServiceStub(mesh.channels.to("retriever"))
    token = mesh.token("documents:read", "answers:write")
    request = SearchRequest(vector=vector_of(text), embedding_model=MODEL, top_k=5)

    async def found() -> Any:
        try:
            return (await call(stub.Search, request, token=token, timeout=10)).chunks
        except Fault as fault:
            if not fault.retryable:
                raise
            return None

    return list(await eventually(found))


def same_hits(found: Sequence[Any], before: Sequence[Any]) -> bool:
    """The same chunks in the same order. A score's last digits depend on where in the file a row
    stands: which of the processor's wide registers added it up."""
    chunks = [hit.chunk for hit in found] == [hit.chunk for hit in before]
    scores = [hit.score for hit in found]
    return chunks and scores == pytest.approx([hit.score for hit in before], abs=1e-6)


async def vectors(mesh: Mesh) -> dict[str, list[float]]:
    """What the vector file holds by itself, byte for byte."""
    name = collection_name(TENANT, MODEL.version)
    client = MilvusClient(uri=mesh.settings.milvus_address)
    try:
        client.load_collection(name)
        rows = client.query(name, filter="version_key >= 0", output_fields=["chunk_id", "vector"])
        return {row["chunk_id"]: [float(x) for x in row["vector"]] for row in rows}
    finally:
        client.close()
        server_manager_instance.release_server(mesh.settings.milvus_address)


async def test_the_index_is_the_same_after_the_loss_of_everything_but_the_log(mesh: Mesh) -> None:
    async with mesh.service("retriever"):
        await fill(mesh)
        before, hits = await index_of(mesh), await search(mesh, "Annual leave is 30 days.")
    kept, length = await vectors(mesh), await ends(mesh.settings)
    # Two letters and the mark that one of them was healed.
    assert length[topics.CHUNKS_EMBEDDED.dead_letter_name] == 3
    shutil.rmtree(mesh.settings.milvus_address)

    rebuilt = await lost_and_rebuilt(mesh.settings, "retriever")

    assert rebuilt.after[f"manifest/{TENANT}"] == before.manifest_hash
    again = await vectors(mesh)
    assert {hit.chunk.chunk_id for hit in hits} <= again.keys()
    assert again == {chunk: kept[chunk] for chunk in again}
    async with mesh.service("retriever") as runtime:
        assert await index_of(mesh) == before
        assert same_hits(await search(mesh, "Annual leave is 30 days."), hits)
        await runtime.bus.relay.empty.wait()
    assert await ends(mesh.settings) == length
