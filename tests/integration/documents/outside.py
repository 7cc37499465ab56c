"""What a producer and a user of the mesh have: Kafka, gRPC, tokens, and nothing of the services."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from google.protobuf.message import Message

from tests.waiting import eventually
from tidemill.api.embedder.v1 import EmbedderServiceStub, EmbedRequest
from tidemill.api.events.v1 import DocumentSubmitted
from tidemill.api.ingest.v1 import Document, GetDocumentRequest, IngestServiceStub
from tidemill.api.retriever.v1 import RetrieverServiceStub, ScoredChunk, SearchRequest
from tidemill.bus.envelope import TOKEN, event_headers
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason
from tidemill.ids import new_id
from tidemill.rpc import Channels, call
from tidemill.settings import MeshSettings
from tidemill.topics import Topic

SCOPES = ("documents:write", "documents:read", "answers:write")


@dataclass
class Outside:
    """One tenant's producer and user."""

    settings: MeshSettings
    producer: AIOKafkaProducer
    channels: Channels
    mint: Callable[..., str]
    tenant: str = "harbor"

    @property
    def token(self) -> str:
        return self.mint(self.settings, self.tenant, *SCOPES)

    async def publish(
        self, topic: Topic[Any], aggregate: str, value: Message | bytes, **changes: str
    ) -> str:
        """Headers as a producer sets them; changes replace them, an empty one takes it away."""
        headers = event_headers(topic, new_id("evt"), "outside", SystemClock().now())
        if topic.write_scope:
            headers[TOKEN] = self.mint(self.settings, self.tenant, topic.write_scope, events=True)
        headers |= {name.replace("_", "-"): text for name, text in changes.items()}
        payload = value if isinstance(value, bytes) else value.SerializeToString()
        await self.producer.send_and_wait(
            topic.name,
            payload,
            key=f"{self.tenant}/{aggregate}".encode(),
            headers=[(name, text.encode()) for name, text in headers.items() if text],
        )
        return headers["ce_id"]

    async def submit(
        self, topic: Topic[Any], document_id: str, media_type: str, content: bytes
    ) -> str:
        message = DocumentSubmitted(
            document_id=document_id, media_type=media_type, content=content, title=document_id
        )
        return await self.publish(topic, document_id, message)

    def ingest(self) -> Any:
        return IngestServiceStub(self.channels.to("ingest"))

    async def document(self, document_id: str) -> Document | None:
        try:
            answer = await call(
                self.ingest().GetDocument,
                GetDocumentRequest(document_id=document_id),
                token=self.token,
                timeout=5.0,
            )
        except Fault as fault:
            if fault.reason is Reason.DOCUMENT_NOT_FOUND:
                return None
            raise
        document: Document = answer.document
        return document

    async def becomes(self, document_id: str, **wanted: Any) -> Document:
        """The document once its fields have these values."""

        async def holds() -> Document | None:
            document = await self.document(document_id)
            if document is None:
                return None
            same = all(getattr(document, name) == value for name, value in wanted.items())
            return document if same else None

        found: Document = await eventually(holds)
        return found

    async def search(self, question: str, top_k: int = 5) -> list[ScoredChunk]:
        embedded = await call(
            EmbedderServiceStub(self.channels.to("embedder")).Embed,
            EmbedRequest(texts=[question]),
            token=self.token,
            timeout=10.0,
        )
        request = SearchRequest(
            vector=embedded.vectors[0], embedding_model=embedded.embedding_model, top_k=top_k
        )
        stub = RetrieverServiceStub(self.channels.to("retriever"))
        answer = await call(stub.Search, request, token=self.token, timeout=10.0)
        return list(answer.chunks)

    async def read(self, topic: str) -> list[Any]:
        """All records of a topic as they are now."""
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.settings.kafka_address, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            records: list[Any] = []
            partitions = consumer.assignment()
            ends = await consumer.end_offsets(list(partitions))
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    batch = await consumer.getmany(partition, timeout_ms=500)
                    records += batch.get(partition, [])
            return records
        finally:
            await consumer.stop()


@asynccontextmanager
async def outside_of(settings: MeshSettings, mint: Callable[..., str]) -> AsyncIterator[Outside]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_address, acks="all", max_request_size=22 << 20
    )
    channels = Channels(settings)
    await producer.start()
    try:
        yield Outside(settings, producer, channels, mint)
    finally:
        await producer.stop()
        await channels.close()
