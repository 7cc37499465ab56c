"""Messages and services of tidemill.api.retriever.v1 (generated; run `make proto`)."""

from .retriever_service_pb2 import (
    GetIndexRequest,
    GetIndexResponse,
    ScoredChunk,
    SearchRequest,
    SearchResponse,
)
from .retriever_service_pb2_grpc import (
    RetrieverServiceServicer,
    RetrieverServiceStub,
)

__all__ = [
    "GetIndexRequest",
    "GetIndexResponse",
    "RetrieverServiceServicer",
    "RetrieverServiceStub",
    "ScoredChunk",
    "SearchRequest",
    "SearchResponse",
]
