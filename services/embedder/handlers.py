"""What the embedder does with a document's chunks and with a caller's texts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.embedder.adapters.batching import PassageBatcher
from services.embedder.adapters.model import Embedded, Embedding
from services.embedder.domain.texts import invalid_queries, passage_text
from tidemill import topics
from tidemill.api.events.v1 import ChunksEmbedded, DocumentChunked, EmbeddedChunk
from tidemill.bus import Delivery, UnitOfWork
from tidemill.bus.consumer import Sender
from tidemill.bus.envelope import Record
from tidemill.bus.tables import InboxRow
from tidemill.bus.unit import published_id
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.rebuild.digests import table_hash


async def embed_version(
    passages: PassageBatcher, message: DocumentChunked, delivery: Delivery
) -> None:
    """All chunks of the version in one event: a reader of the log never sees half of it."""
    if message.tenant_id != delivery.tenant_id or message.document_id != delivery.aggregate_id:
        raise Fault(Reason.TENANT_MISMATCH)
    if not message.chunks:
        raise Fault(Reason.INVALID_ARGUMENT, field="chunks")
    texts = [passage_text(message.title, chunk.headings, chunk.text) for chunk in message.chunks]
    embedded = await passages.embed(texts)
    event = to_event(message, embedded)
    await delivery.apply(
        lambda unit: unit.publish(topics.CHUNKS_EMBEDDED, message.document_id, event)
    )


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


@dataclass
class Embeddings:
    """Ids of the events that tell of embedded versions, while the inbox is built again."""

    ids: set[str] = field(default_factory=set)

    def read(self, message: ChunksEmbedded, record: Record, unit: UnitOfWork) -> None:
        self.ids.add(record.event_id)

    async def retake(self, message: DocumentChunked, delivery: Delivery) -> None:
        """It was embedded then; its inbox row is all that was lost."""

    async def leaves(self, record: Record, sender: Sender) -> bool:
        """What was not embedded waits, or its event was lost; the service embeds it."""
        consumer = f"embedder/{topics.DOCUMENTS_CHUNKED.name}"
        name = topics.CHUNKS_EMBEDDED.name
        return published_id(consumer, record.event_id, name, sender.key) not in self.ids


async def digests(database: Database) -> dict[str, str]:
    """What the embedder is done with."""
    return await database.read(
        lambda session: {"done": table_hash(session, InboxRow, ("done_at",))}
    )
