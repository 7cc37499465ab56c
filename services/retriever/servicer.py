"""RetrieverService over gRPC."""

from typing import Any

from services.retriever.handlers.searching import Passage, Searching, describe_index, search
from tidemill.api.common.v1 import Chunk
from tidemill.api.retriever.v1 import (
    GetIndexRequest,
    GetIndexResponse,
    RetrieverServiceServicer,
    ScoredChunk,
    SearchRequest,
    SearchResponse,
)
from tidemill.rpc import current_caller


class RetrieverServicer(RetrieverServiceServicer):
    """Decode, one use case, encode."""

    def __init__(self, searching: Searching) -> None:
        self._searching = searching

    async def Search(self, request: SearchRequest, context: Any) -> SearchResponse:
        passages = await search(
            self._searching,
            current_caller().tenant_id,
            request.vector,
            request.embedding_model,
            request.top_k,
        )
        return SearchResponse(chunks=[to_scored_chunk(passage) for passage in passages])

    async def GetIndex(self, request: GetIndexRequest, context: Any) -> GetIndexResponse:
        index = await describe_index(self._searching.database, current_caller().tenant_id)
        return GetIndexResponse(
            embedding_model=index.model,
            documents=index.documents,
            chunks=index.chunks,
            manifest_hash=index.manifest_hash,
        )


def to_scored_chunk(passage: Passage) -> ScoredChunk:
    chunk = passage.chunk
    return ScoredChunk(
        chunk=Chunk(
            chunk_id=chunk.chunk_id,
            document_id=chunk.document_id,
            version=chunk.version,
            ordinal=chunk.ordinal,
            headings=chunk.headings,
            text=chunk.text,
        ),
        score=passage.score,
        title=chunk.title,
        source_uri=chunk.source_uri,
    )
