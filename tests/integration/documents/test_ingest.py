"""Ingest over Kafka and gRPC: what is taken in, what is refused, and what is said about it."""

import json
from typing import Any

import pytest

from tests.integration.documents.outside import Outside
from tests.unit.ingest import files
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.events.v1 import (
    DocumentChunked,
    DocumentIndexed,
    DocumentRejected,
    DocumentRetired,
    DocumentSubmitted,
    DocumentWithdrawn,
)
from tidemill.api.ingest.v1 import (
    DOCUMENT_STATE_CHUNKED,
    DOCUMENT_STATE_INDEXED,
    DOCUMENT_STATE_REJECTED,
    DOCUMENT_STATE_WITHDRAWN,
    ListDocumentsRequest,
    SubmitDocumentRequest,
    WithdrawDocumentRequest,
)
from tidemill.faults import Fault, Reason
from tidemill.rpc import call
from tidemill.topics import DOCUMENTS_SUBMITTED as SUBMITTED

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


async def test_versions_follow_content_and_withdrawal(ingesting: Outside) -> None:
    await ingesting.submit(SUBMITTED, "hr/leave", "text/markdown", b"# Leave\n\n27 days.\n")
    first = await ingesting.becomes("hr/leave", version=1, state=DOCUMENT_STATE_CHUNKED)
    await ingesting.submit(SUBMITTED, "hr/leave", "text/markdown", b"# Leave\n\n27 days.\n")
    await ingesting.submit(SUBMITTED, "hr/leave", "text/markdown", b"# Leave\n\n28 days.\n")
    second = await ingesting.becomes("hr/leave", version=2)
    assert first.content_hash != second.content_hash
    withdrawal = DocumentWithdrawn(document_id="hr/leave")
    await ingesting.publish(topics.DOCUMENTS_WITHDRAWN, "hr/leave", withdrawal)
    await ingesting.becomes("hr/leave", version=3, state=DOCUMENT_STATE_WITHDRAWN)
    await ingesting.submit(SUBMITTED, "hr/leave", "text/markdown", b"# Leave\n\n28 days.\n")
    await ingesting.becomes("hr/leave", version=4, state=DOCUMENT_STATE_CHUNKED)

    async def four_events() -> list[Any] | None:
        chunked = await ingesting.read(topics.DOCUMENTS_CHUNKED.name)
        retired = await ingesting.read(topics.DOCUMENTS_RETIRED.name)
        return [chunked, retired] if len(chunked) >= 3 and retired else None

    chunked, retired = await eventually(four_events)
    events = [DocumentChunked.FromString(record.value) for record in chunked]
    assert [event.version for event in events] == [1, 2, 4]
    assert [r.key for r in chunked] == [b"harbor/hr/leave"] * 3
    assert DocumentRetired.FromString(retired[0].value).version == 3
    chunk = events[0].chunks[0]
    assert (list(chunk.headings), chunk.text, chunk.ordinal) == (["Leave"], "27 days.", 0)
    assert len({event.chunks[0].chunk_id for event in events}) == 3


REFUSED = [
    ("image/png", b"png", "MEDIA_TYPE_UNSUPPORTED"),
    ("application/pdf", b"%PDF-1.7 broken", "DOCUMENT_BROKEN"),
    ("text/plain", b"x" * (10 * 1024 * 1024 + 1), "DOCUMENT_TOO_LARGE"),
    ("text/plain", b"M\xfcller", "ENCODING_INVALID"),
    ("text/markdown", b" \n", "DOCUMENT_EMPTY"),
    (DOCX, files.zip_bomb(80), "DOCUMENT_TOO_LARGE"),
]


async def test_refusals_are_events_with_reasons_and_spare_the_earlier_version(
    ingesting: Outside,
) -> None:
    await ingesting.submit(SUBMITTED, "d0", "text/plain", b"the good version")
    await ingesting.becomes("d0", version=1)
    sent = {}
    for index, (media_type, content, reason) in enumerate(REFUSED):
        event_id = await ingesting.submit(SUBMITTED, f"d{index}", media_type, content)
        sent[event_id] = (f"d{index}", reason)
    for document_id, reason in sent.values():
        await ingesting.becomes(document_id, rejection_reason=reason)
    kept = await ingesting.document("d0")
    assert kept is not None
    assert (kept.version, kept.state) == (1, DOCUMENT_STATE_CHUNKED)
    await ingesting.becomes("d1", version=0, state=DOCUMENT_STATE_REJECTED)

    async def all_told() -> list[DocumentRejected] | None:
        records = await ingesting.read(topics.DOCUMENTS_REJECTED.name)
        events = [DocumentRejected.FromString(record.value) for record in records]
        return events if len(events) == len(sent) else None

    told = {e.event_id: (e.document_id, e.reason) for e in await eventually(all_told)}
    assert told == sent


async def test_what_is_no_event_is_parked_with_its_reason(ingesting: Outside) -> None:
    good = DocumentSubmitted(document_id="d", media_type="text/plain", content=b"text")
    unknown = good.SerializeToString() + b"\x9a\x06\x03abc"
    parked = {
        await ingesting.publish(SUBMITTED, "d", good, tidemill_token=""): "TOKEN_MISSING",
        await ingesting.publish(SUBMITTED, "d", good, tidemill_token="x.y.z"): "TOKEN_INVALID",
        await ingesting.publish(SUBMITTED, "d", b"\xff\xff\xff"): "SCHEMA_INVALID",
        await ingesting.publish(SUBMITTED, "d", unknown): "SCHEMA_INVALID",
        await ingesting.publish(SUBMITTED, "other", good): "INVALID_ARGUMENT",
    }
    foreign = Outside(ingesting.settings, ingesting.producer, ingesting.channels, ingesting.mint)
    foreign.tenant = "intruder"
    token = foreign.mint(foreign.settings, "intruder", "documents:write", events=True)
    event_id = await ingesting.publish(SUBMITTED, "d", good, tidemill_token=token)
    parked[event_id] = "TENANT_MISMATCH"

    async def all_parked() -> dict[str, str] | None:
        records = await ingesting.read(SUBMITTED.dead_letter_name)
        headers = [dict(record.headers) for record in records]
        found = {h["ce_id"].decode(): h["tidemill-reason"].decode() for h in headers}
        return found if len(found) == len(parked) else None

    assert await eventually(all_parked) == parked
    assert await ingesting.document("d") is None


async def test_json_events_are_taken_too(ingesting: Outside) -> None:
    value = {"documentId": "d", "mediaType": "text/plain", "content": "aGVsbG8gd29ybGQ="}
    await ingesting.publish(
        SUBMITTED, "d", json.dumps(value).encode(), content_type="application/json"
    )
    await ingesting.becomes("d", version=1, chunk_count=1)


async def test_calls_put_documents_on_the_log_once_per_request_id(ingesting: Outside) -> None:
    request = SubmitDocumentRequest(
        document_id="d", media_type="text/plain", content=b"text", request_id="r1"
    )
    submit = ingesting.ingest().SubmitDocument
    first = await call(submit, request, token=ingesting.token, timeout=5.0)
    again = await call(submit, request, token=ingesting.token, timeout=5.0)
    assert first.event_id == again.event_id
    request.content = b"other"
    with pytest.raises(Fault) as reused:
        await call(submit, request, token=ingesting.token, timeout=5.0)
    assert reused.value.reason is Reason.REQUEST_ID_REUSED
    document = await ingesting.becomes("d", version=1)
    assert document.event_id == first.event_id
    withdraw = WithdrawDocumentRequest(document_id="d")
    await call(ingesting.ingest().WithdrawDocument, withdraw, token=ingesting.token, timeout=5.0)
    await ingesting.becomes("d", state=DOCUMENT_STATE_WITHDRAWN)
    assert len(await ingesting.read(SUBMITTED.name)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"media_type": "image/png"}, Reason.MEDIA_TYPE_UNSUPPORTED),
        ({"content": b""}, Reason.DOCUMENT_EMPTY),
        ({"content": b"x" * (10 * 1024 * 1024 + 1)}, Reason.DOCUMENT_TOO_LARGE),
        ({"content": b"x" * (11 * 1024 * 1024 + 1)}, Reason.REQUEST_TOO_LARGE),
        ({"document_id": "../x"}, Reason.INVALID_ARGUMENT),
        ({"request_id": "r" * 129}, Reason.INVALID_ARGUMENT),
        ({"media_type": "text/plain; charset=klingon"}, Reason.ENCODING_INVALID),
    ],
)
async def test_calls_are_refused_at_once_for_what_can_be_seen_at_once(
    ingesting: Outside, changes: dict[str, Any], reason: Reason
) -> None:
    fields = {"document_id": "d", "media_type": "text/plain", "content": b"text"} | changes
    with pytest.raises(Fault) as refused:
        await call(
            ingesting.ingest().SubmitDocument,
            SubmitDocumentRequest(**fields),
            token=ingesting.token,
            timeout=10.0,
        )
    assert refused.value.reason is reason
    assert await ingesting.read(SUBMITTED.name) == []


async def test_lists_page_by_page_and_only_the_callers_own(ingesting: Outside) -> None:
    names = [f"doc-{index}" for index in range(5)]
    for name in names:
        await ingesting.submit(SUBMITTED, name, "text/plain", b"text of " + name.encode())
    for name in names:
        await ingesting.becomes(name, version=1)
    seen: list[str] = []
    token = ""
    while True:
        page = await call(
            ingesting.ingest().ListDocuments,
            ListDocumentsRequest(page_size=2, page_token=token),
            token=ingesting.token,
            timeout=5.0,
        )
        seen += [document.document_id for document in page.documents]
        token = page.next_page_token
        if not token:
            break
    assert seen == names
    ingesting.tenant = "other"
    empty = await call(
        ingesting.ingest().ListDocuments,
        ListDocumentsRequest(),
        token=ingesting.token,
        timeout=5.0,
    )
    assert list(empty.documents) == []
    assert await ingesting.document("doc-0") is None


async def test_the_index_news_may_come_twice_and_in_any_order(ingesting: Outside) -> None:
    for text in (b"one", b"two"):
        await ingesting.submit(SUBMITTED, "d", "text/plain", text)
    await ingesting.becomes("d", version=2)
    for version in (2, 1, 2):
        news = DocumentIndexed(tenant_id="harbor", document_id="d", version=version)
        await ingesting.publish(topics.DOCUMENTS_INDEXED, "d", news)
    await ingesting.becomes("d", indexed_version=2, state=DOCUMENT_STATE_INDEXED)
    await ingesting.submit(SUBMITTED, "marker", "text/plain", b"text")
    marker = DocumentIndexed(tenant_id="harbor", document_id="marker", version=1)
    await ingesting.publish(topics.DOCUMENTS_INDEXED, "marker", marker)
    await ingesting.becomes("marker", indexed_version=1, state=DOCUMENT_STATE_INDEXED)
    await ingesting.becomes("d", indexed_version=2)
