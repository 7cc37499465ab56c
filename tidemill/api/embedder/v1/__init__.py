"""Messages and services of tidemill.api.embedder.v1 (generated; run `make proto`)."""

from .embedder_service_pb2 import (
    EmbedRequest,
    EmbedResponse,
)
from .embedder_service_pb2_grpc import (
    EmbedderServiceServicer,
    EmbedderServiceStub,
)

__all__ = [
    "EmbedRequest",
    "EmbedResponse",
    "EmbedderServiceServicer",
    "EmbedderServiceStub",
]
