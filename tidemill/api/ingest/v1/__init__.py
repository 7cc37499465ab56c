"""Messages and services of tidemill.api.ingest.v1 (generated; run `make proto`)."""

from .ingest_service_pb2 import (
    DOCUMENT_STATE_CHUNKED,
    DOCUMENT_STATE_INDEXED,
    DOCUMENT_STATE_REJECTED,
    DOCUMENT_STATE_UNSPECIFIED,
    DOCUMENT_STATE_WITHDRAWN,
    Document,
    DocumentState,
    GetDocumentRequest,
    GetDocumentResponse,
    GetSubmissionRequest,
    GetSubmissionResponse,
    ListDocumentsRequest,
    ListDocumentsResponse,
    SubmitDocumentRequest,
    SubmitDocumentResponse,
    WithdrawDocumentRequest,
    WithdrawDocumentResponse,
)
from .ingest_service_pb2_grpc import (
    IngestServiceServicer,
    IngestServiceStub,
)

__all__ = [
    "DOCUMENT_STATE_CHUNKED",
    "DOCUMENT_STATE_INDEXED",
    "DOCUMENT_STATE_REJECTED",
    "DOCUMENT_STATE_UNSPECIFIED",
    "DOCUMENT_STATE_WITHDRAWN",
    "Document",
    "DocumentState",
    "GetDocumentRequest",
    "GetDocumentResponse",
    "GetSubmissionRequest",
    "GetSubmissionResponse",
    "IngestServiceServicer",
    "IngestServiceStub",
    "ListDocumentsRequest",
    "ListDocumentsResponse",
    "SubmitDocumentRequest",
    "SubmitDocumentResponse",
    "WithdrawDocumentRequest",
    "WithdrawDocumentResponse",
]
