"""Whoever submits a document hears at once that it was refused, and why."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.documents.outside import Outside
from tests.waiting import eventually
from tidemill.api.common.v1 import SUBMISSION_STATE_REJECTED
from tidemill.api.ingest.v1 import GetSubmissionRequest, IngestServiceStub, SubmitDocumentRequest
from tidemill.cli.documents import DocumentFile
from tidemill.cli.use_commands import Outcome, submit_file, wait_for
from tidemill.client import Client, connect
from tidemill.faults import Fault, Reason
from tidemill.rpc import call
from tidemill.security.tokens import EVENT_AUDIENCE

SECONDS = 5.0


@pytest.fixture
async def client(ingesting: Outside) -> AsyncIterator[Client]:
    def tokens(audience: str) -> str:
        scopes = ("documents:write", "documents:read")
        events = audience == EVENT_AUDIENCE
        return ingesting.mint(ingesting.settings, ingesting.tenant, *scopes, events=events)

    async with connect(ingesting.settings, ingesting.tenant, tokens) as connected:
        yield connected


async def test_a_rejection_and_a_dead_letter_end_the_wait_within_five_seconds(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 broken")
    broken = DocumentFile(path, "broken", "application/pdf")
    unreadable = DocumentFile(path, "an id with a \0", "application/pdf")
    files = [broken, unreadable]
    events = [await submit_file(client, file) for file in files]
    async with asyncio.timeout(SECONDS):
        done = await wait_for(client, files, events)
    assert done == [Outcome(rejected="DOCUMENT_BROKEN"), Outcome(rejected="SCHEMA_INVALID")]


async def test_a_call_names_what_asks_after_its_event(ingesting: Outside) -> None:
    stub = IngestServiceStub(ingesting.channels.to("ingest"))
    request = SubmitDocumentRequest(document_id="d", media_type="application/pdf", content=b"%PDF")
    sent = await call(stub.SubmitDocument, request, token=ingesting.token, timeout=SECONDS)
    asked = GetSubmissionRequest(source=sent.source, event_id=sent.event_id)

    async def told() -> Any:
        try:
            found = await call(stub.GetSubmission, asked, token=ingesting.token, timeout=SECONDS)
        except Fault as not_read_yet:
            if not_read_yet.reason is not Reason.NOT_FOUND:
                raise
            return None
        return found.submission

    found = await eventually(told)
    assert (found.state, found.reason) == (SUBMISSION_STATE_REJECTED, "DOCUMENT_BROKEN")
