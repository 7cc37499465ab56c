"""IngestService over gRPC."""

import base64
import binascii
from typing import Any

from sqlalchemy import Row

from services.ingest.adapters.store import DocumentRow
from services.ingest.handlers import calls
from tidemill.api.events.v1 import DocumentSubmitted, DocumentWithdrawn
from tidemill.api.ingest.v1 import (
    DOCUMENT_STATE_CHUNKED,
    DOCUMENT_STATE_INDEXED,
    DOCUMENT_STATE_REJECTED,
    DOCUMENT_STATE_WITHDRAWN,
    Document,
    DocumentState,
    GetDocumentRequest,
    GetDocumentResponse,
    GetSubmissionRequest,
    GetSubmissionResponse,
    IngestServiceServicer,
    ListDocumentsRequest,
    ListDocumentsResponse,
    SubmitDocumentRequest,
    SubmitDocumentResponse,
    WithdrawDocumentRequest,
    WithdrawDocumentResponse,
)
from tidemill.bus import Bus
from tidemill.bus.envelope import source_of
from tidemill.bus.submissions import get_submission
from tidemill.clock import Clock
from tidemill.faults import Fault, Reason
from tidemill.rpc import current_caller


class IngestServicer(IngestServiceServicer):
    """Decode, one use case, encode."""

    def __init__(self, bus: Bus, clock: Clock, max_document_bytes: int) -> None:
        self._bus = bus
        self._clock = clock
        self._max_document_bytes = max_document_bytes

    async def SubmitDocument(
        self, request: SubmitDocumentRequest, context: Any
    ) -> SubmitDocumentResponse:
        message = DocumentSubmitted(
            document_id=request.document_id,
            media_type=request.media_type,
            content=request.content,
            title=request.title,
            source_uri=request.source_uri,
        )
        message.submitted_time.FromDatetime(self._clock.now())
        tenant = current_caller().tenant_id
        event_id = await calls.submit_document(
            self._bus, tenant, message, request.request_id, self._max_document_bytes
        )
        return SubmitDocumentResponse(event_id=event_id, source=source_of("ingest"))

    async def WithdrawDocument(
        self, request: WithdrawDocumentRequest, context: Any
    ) -> WithdrawDocumentResponse:
        message = DocumentWithdrawn(document_id=request.document_id)
        message.withdrawn_time.FromDatetime(self._clock.now())
        tenant = current_caller().tenant_id
        event_id = await calls.withdraw_document(self._bus, tenant, message, request.request_id)
        return WithdrawDocumentResponse(event_id=event_id, source=source_of("ingest"))

    async def GetSubmission(
        self, request: GetSubmissionRequest, context: Any
    ) -> GetSubmissionResponse:
        tenant, database = current_caller().tenant_id, self._bus.database
        found = await get_submission(database, "ingest", tenant, request.source, request.event_id)
        return GetSubmissionResponse(submission=found)

    async def GetDocument(self, request: GetDocumentRequest, context: Any) -> GetDocumentResponse:
        tenant = current_caller().tenant_id
        row = await calls.get_document(self._bus, tenant, request.document_id)
        return GetDocumentResponse(document=to_document(row))

    async def ListDocuments(
        self, request: ListDocumentsRequest, context: Any
    ) -> ListDocumentsResponse:
        tenant = current_caller().tenant_id
        after = decode_token(request.page_token)
        page = await calls.list_documents(self._bus, tenant, after, request.page_size)
        return ListDocumentsResponse(
            documents=[to_document(row) for row in page.rows],
            next_page_token=encode_token(page.after),
        )


def to_document(row: DocumentRow | Row[Any]) -> Document:
    document = Document(
        document_id=row.document_id,
        state=state_of(row),
        version=row.version,
        indexed_version=row.indexed_version,
        title=row.title,
        media_type=row.media_type,
        content_hash=row.content_hash,
        chunk_count=row.chunk_count,
        rejection_reason=row.rejection_reason,
        event_id=row.event_id,
    )
    document.update_time.FromDatetime(row.update_time)
    return document


def state_of(row: DocumentRow | Row[Any]) -> DocumentState.ValueType:
    if row.content_hash:
        indexed = row.indexed_version == row.version
        return DOCUMENT_STATE_INDEXED if indexed else DOCUMENT_STATE_CHUNKED
    never_accepted = row.version == 0 and row.withdrawn_time is None
    return DOCUMENT_STATE_REJECTED if never_accepted else DOCUMENT_STATE_WITHDRAWN


def encode_token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode() if after else ""


def decode_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as error:
        raise Fault(Reason.INVALID_ARGUMENT, field="page_token") from error
