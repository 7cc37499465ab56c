"""EmbedderService over gRPC."""

from typing import Any

from services.embedder.adapters.model import Embedding
from services.embedder.handlers import embed_queries
from tidemill.api.embedder.v1 import EmbedderServiceServicer, EmbedRequest, EmbedResponse


class EmbedderServicer(EmbedderServiceServicer):
    """Decode, one use case, encode."""

    def __init__(self, embedding: Embedding, query_seconds: float) -> None:
        self._embedding = embedding
        self._query_seconds = query_seconds

    async def Embed(self, request: EmbedRequest, context: Any) -> EmbedResponse:
        embedded = await embed_queries(self._embedding, request.texts, self._query_seconds)
        return EmbedResponse(vectors=embedded.vectors, embedding_model=embedded.model)
