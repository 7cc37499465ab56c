"""The question's vector from the embedder and its nearest chunks from the retriever."""

import grpc

from services.inference.domain.answer import Chunk, Retrieved
from tidemill.api.embedder.v1 import EmbedderServiceStub, EmbedRequest
from tidemill.api.retriever.v1 import RetrieverServiceStub, ScoredChunk, SearchRequest
from tidemill.rpc import call


class Retrieval:
    """Embeds and searches with the caller's own token, so that both see the same tenant."""

    def __init__(self, embedder: grpc.aio.Channel, retriever: grpc.aio.Channel, top_k: int) -> None:
        self._embedder = EmbedderServiceStub(embedder)
        self._retriever = RetrieverServiceStub(retriever)
        self._top_k = top_k

    async def nearest(self, question: str, *, token: str, timeout: float) -> Retrieved:
        """The best chunks, best first; their faults come through. timeout: seconds, per call."""
        embedded = await call(
            self._embedder.Embed, EmbedRequest(texts=[question]), token=token, timeout=timeout
        )
        request = SearchRequest(
            vector=embedded.vectors[0],
            embedding_model=embedded.embedding_model,
            top_k=self._top_k,
        )
        found = await call(self._retriever.Search, request, token=token, timeout=timeout)
        chunks = enumerate(found.chunks[: self._top_k], 1)
        return Retrieved(
            embedded.vectors[0], tuple(_chunk(marker, each) for marker, each in chunks)
        )


def _chunk(marker: int, found: ScoredChunk) -> Chunk:
    return Chunk(
        marker=marker,
        chunk_id=found.chunk.chunk_id,
        document_id=found.chunk.document_id,
        version=found.chunk.version,
        title=found.title,
        headings=tuple(found.chunk.headings),
        text=found.chunk.text,
        score=found.score,
    )
