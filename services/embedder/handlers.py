"""What the embedder does with a document's chunks and with a caller's texts."""

import asyncio
from collections.abc import Sequence

from services.embedder.adapters.model import Embedded, Embedding
from services.embedder.domain.texts import invalid_queries, passage_text
from tidemill import topics
from tidemill.api.events.v1 import ChunksEmbedded, DocumentChunked, EmbeddedChunk
from tidemill.bus import Delivery
from tidemill.faults import Fault, Reason


async def embed_version(
    embedding: Embedding, batch_seconds: float, message: DocumentChunked, delivery: Delivery
) -> None:
    """All chunks of the version in one event: a reader of the log never sees half of it."""
    if message.tenant_id != delivery.tenant_id or message.document_id != delivery.aggregate_id:
        raise Fault(Reason.TENANT_MISMATCH)
    if not message.chunks:
        raise Fault(Reason.INVALID_ARGUMENT, field="chunks")
    texts = [passage_text(message.title, chunk.headings, chunk.text) for chunk in message.chunks]
    embedded = await embedding.embed(texts, timeout=batch_seconds)
    async with delivery.apply() as unit:
        unit.publish(topics.CHUNKS_EMBEDDED, message.document_id, to_event(message, embedded))


def to_event(message: DocumentChunked, embedded: Embedded) -> ChunksEmbedded:
    pairs = zip(message.chunks, embedded.vectors, strict=True)
    return ChunksEmbedded(
        tenant_id=message.tenant_id,
        document_id=message.document_id,
        version=message.version,
        title=message.title,
        source_uri=message.source_uri,
        embedding_model=embedded.model,
        chunks=[EmbeddedChunk(chunk=chunk, vector=vector) for chunk, vector in pairs],
    )


async def embed_queries(embedding: Embedding, texts: Sequence[str], seconds: float) -> Embedded:
    """Raises Fault(INVALID_ARGUMENT) for no, too many, empty or too long texts."""
    if invalid_queries(texts):
        raise Fault(Reason.INVALID_ARGUMENT, field="texts")
    try:
        async with asyncio.timeout(seconds):
            return await embedding.embed(texts, timeout=seconds)
    except TimeoutError as error:
        raise Fault(Reason.DEADLINE_EXCEEDED, dependency="model_server") from error
