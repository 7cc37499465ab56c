"""A document event becomes a searchable passage, over real Kafka, Triton and Milvus."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.embedder.app import lifespan as embedder
from services.ingest.app import lifespan as ingest
from services.retriever.app import lifespan as retriever
from tests.integration.documents.outside import Outside
from tests.integration.triton_process import Triton
from tests.unit.ingest import files
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.common.v1 import EmbeddingModel
from tidemill.api.embedder.v1 import EmbedderServiceStub, EmbedRequest
from tidemill.api.events.v1 import DocumentWithdrawn
from tidemill.api.ingest.v1 import DOCUMENT_STATE_INDEXED, DOCUMENT_STATE_WITHDRAWN
from tidemill.api.retriever.v1 import GetIndexRequest, RetrieverServiceStub, SearchRequest
from tidemill.faults import Fault, Reason
from tidemill.rpc import call
from tidemill.topics import DOCUMENTS_SUBMITTED as SUBMITTED

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
DOCUMENTS = {
    "hr/leave": (
        "text/markdown",
        b"# Annual leave\n\nA full-time employee gets 27 days of leave.\n",
    ),
    "it/backup": ("text/plain", b"The nightly backup of the servers starts at 01:40.\n"),
    "products/buoy": (
        "text/html",
        b"<main><h1>Lanternfish buoy</h1><p>It stores 52 kilowatt hours.</p></main>",
    ),
    "products/robot": (
        "application/pdf",
        files.pdf([[("Moorhand robot", 20), ("It moors a ship in 34 seconds.", 11)]]),
    ),
    "vehicles/vans": (DOCX, files.docx()),
}
QUESTIONS = {
    "How many days of holiday do I have?": "hr/leave",
    "When does the backup run?": "it/backup",
    "How much energy does the Lanternfish store?": "products/buoy",
    "How long does the robot need to moor a ship?": "products/robot",
    "How many vans are in Veldmouth?": "vehicles/vans",
}
CANARIES = ("jo.canary@harbour.example", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00")


@pytest.fixture
async def path(
    triton: Triton, settings: Any, run_service: Any, outside: Outside
) -> AsyncIterator[Outside]:
    """All three services, and someone outside."""
    settings = settings.model_copy(update={"triton": triton.address})
    async with AsyncExitStack() as stack:
        for name, lifespan in (
            ("ingest", ingest),
            ("embedder", embedder),
            ("retriever", retriever),
        ):
            await stack.enter_async_context(run_service(name, settings, lifespan))
        yield outside


@pytest.mark.triton
async def test_every_media_type_is_found_by_its_question(path: Outside) -> None:
    for document_id, (media_type, content) in DOCUMENTS.items():
        await path.submit(SUBMITTED, document_id, media_type, content)
    for document_id in DOCUMENTS:
        await path.becomes(document_id, state=DOCUMENT_STATE_INDEXED, indexed_version=1)
    for question, document_id in QUESTIONS.items():
        first = (await path.search(question))[0]
        assert first.chunk.document_id == document_id
        assert (first.chunk.version, first.title) == (1, document_id)
        assert 0.3 < first.score <= 1.0
    stub = RetrieverServiceStub(path.channels.to("retriever"))
    index = await call(stub.GetIndex, GetIndexRequest(), token=path.token, timeout=5.0)
    assert (index.documents, index.chunks) == (5, 5)
    assert index.embedding_model.dimensions == 384
    assert len(index.manifest_hash) == 64

    path.tenant = "other"
    assert await path.search("How many days of holiday do I have?") == []
    empty = await call(stub.GetIndex, GetIndexRequest(), token=path.token, timeout=5.0)
    assert (empty.documents, empty.chunks) == (0, 0)


@pytest.mark.triton
async def test_a_new_version_is_found_and_a_withdrawn_document_is_not(path: Outside) -> None:
    await path.submit(SUBMITTED, "hr/leave", "text/plain", b"You get 27 days of leave.")
    await path.becomes("hr/leave", indexed_version=1)
    await path.submit(SUBMITTED, "hr/leave", "text/plain", b"You get 30 days of leave.")
    await path.becomes("hr/leave", indexed_version=2)
    hits = await path.search("How many days of leave?")
    assert [(hit.chunk.version, hit.chunk.text) for hit in hits] == [
        (2, "You get 30 days of leave.")
    ]
    withdrawal = DocumentWithdrawn(document_id="hr/leave")
    await path.publish(topics.DOCUMENTS_WITHDRAWN, "hr/leave", withdrawal)
    await path.becomes("hr/leave", version=3, state=DOCUMENT_STATE_WITHDRAWN)

    async def gone() -> bool:
        return await path.search("How many days of leave?") == []

    assert await eventually(gone)


@pytest.mark.triton
async def test_one_trace_leads_from_the_event_to_the_searchable_vector(
    path: Outside, settings: Any
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    message = topics.DOCUMENTS_SUBMITTED.message(
        document_id="d", media_type="text/plain", content=b"traced text"
    )
    traceparent = f"00-{trace}-b7ad6b7169203331-01"
    await path.publish(SUBMITTED, "d", message, traceparent=traceparent)
    await path.becomes("d", indexed_version=1)

    async def seen() -> set[str] | None:
        found = {
            file.relative_to(settings.home).parts[0]
            for file in settings.home.rglob("*traces*")
            if file.is_file() and trace in file.read_text()
        }
        return found if len(found) == 3 else None

    assert await eventually(seen) == {"ingest", "embedder", "retriever"}


@pytest.mark.triton
async def test_personal_data_reaches_nothing_behind_the_submission(
    path: Outside, settings: Any
) -> None:
    text = f"Ask {CANARIES[0]}, card {CANARIES[1]}, IBAN {CANARIES[2]}, for the plan."
    await path.submit(SUBMITTED, "d", "text/plain", text.encode())
    await path.becomes("d", indexed_version=1)
    hit = (await path.search("Whom do I ask for the plan?"))[0]
    assert hit.chunk.text == "Ask [EMAIL], card [CARD], IBAN [IBAN], for the plan."
    for topic in topics.CATALOGUE:
        if topic.name != SUBMITTED.name:
            for record in await path.read(topic.name):
                assert not any(canary.encode() in record.value for canary in CANARIES)
    assert files_with(Path(settings.home), b"[EMAIL]"), "the scan would find text that is there"
    kept = Path(settings.artifacts_url, "originals")
    for canary in CANARIES:
        (original,) = files_with(Path(settings.home), canary.encode())
        assert original.is_relative_to(kept), "only the submitted bytes themselves hold it"


def files_with(folder: Path, needle: bytes) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if needle in file.read_bytes()]


@pytest.mark.triton
async def test_calls_with_bad_input_are_refused_with_their_reasons(path: Outside) -> None:
    await path.submit(SUBMITTED, "d", "text/plain", b"some text")
    await path.becomes("d", indexed_version=1)
    embed = EmbedderServiceStub(path.channels.to("embedder")).Embed
    search = RetrieverServiceStub(path.channels.to("retriever")).Search
    answer = await call(embed, EmbedRequest(texts=["text"]), token=path.token, timeout=10.0)
    model, vector = answer.embedding_model, answer.vectors[0]
    other = EmbeddingModel(name=model.name, version="other", dimensions=model.dimensions)
    refused: list[tuple[Any, Any, Reason]] = [
        (embed, EmbedRequest(), Reason.INVALID_ARGUMENT),
        (embed, EmbedRequest(texts=["x"] * 65), Reason.INVALID_ARGUMENT),
        (embed, EmbedRequest(texts=["x" * 4_001]), Reason.INVALID_ARGUMENT),
        (embed, EmbedRequest(texts=["text", " "]), Reason.INVALID_ARGUMENT),
        (search, SearchRequest(vector=vector), Reason.INVALID_ARGUMENT),
        (search, SearchRequest(vector=vector[:-4], embedding_model=model), Reason.INVALID_ARGUMENT),
        (
            search,
            SearchRequest(vector=vector, embedding_model=model, top_k=51),
            Reason.INVALID_ARGUMENT,
        ),
        (
            search,
            SearchRequest(vector=vector, embedding_model=other),
            Reason.EMBEDDING_MODEL_MISMATCH,
        ),
    ]
    for method, request, reason in refused:
        with pytest.raises(Fault) as fault:
            await call(method, request, token=path.token, timeout=10.0)
        assert fault.value.reason is reason


@pytest.mark.triton
@pytest.mark.slow
async def test_the_handbooks_answers_are_among_the_first_hits(path: Outside) -> None:
    """Every document of the example handbook, every question of its feedback pool."""
    folder = Path(__file__).parents[3] / "examples" / "handbook"
    documents = [json.loads(x) for x in (folder / "documents.jsonl").read_text().splitlines()]
    for one in documents:
        content = (folder / one["path"]).read_bytes()
        await path.submit(SUBMITTED, one["document_id"], one["media_type"], content)
    for one in documents:
        await path.becomes(one["document_id"], indexed_version=1)
    lines = (folder / "feedback_pool.jsonl").read_text().splitlines()
    questions = [q for q in map(json.loads, lines) if q["answerable"]]
    hits = {q["question_id"]: await path.search(q["question"], 3) for q in questions}
    found = [
        q
        for q in questions
        if any(h.chunk.document_id == q["document_id"] for h in hits[q["question_id"]])
    ]
    assert len(found) >= 0.97 * len(questions)
