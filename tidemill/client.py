"""The client of a mesh for product services: events in over Kafka, questions over gRPC."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tidemill.api.common.v1 import Submission
from tidemill.api.events.v1 import DocumentSubmitted, DocumentWithdrawn, FeedbackSubmitted
from tidemill.api.inference import v1 as inference
from tidemill.api.inference.v1 import (
    GenerateRequest,
    GenerateResponse,
    GenerationCompleted,
    GenerationStarted,
    InferenceServiceStub,
)
from tidemill.api.ingest import v1 as ingest
from tidemill.api.ingest.v1 import IngestServiceStub
from tidemill.backoff import Backoff
from tidemill.bus.envelope import TOKEN, TRACEPARENT, event_headers, source_of
from tidemill.bus.goodbye import say_goodbye
from tidemill.faults import Fault, Reason
from tidemill.ids import new_id
from tidemill.rpc import Channels, call, stream
from tidemill.settings import MeshSettings
from tidemill.topics import (
    DOCUMENTS_SUBMITTED,
    DOCUMENTS_WITHDRAWN,
    FEEDBACK_SUBMITTED,
    MAX_MESSAGE_BYTES,
    M,
    Topic,
)

PUBLISH_SECONDS = 30.0
LOOK_SECONDS = 10.0
ANSWER_SECONDS = 120.0
ATTEMPTS = 3
OVERLOAD_SECONDS = 1.0

PRODUCER = "client"

TokenSource = Callable[[str], str]
"""Gives a token for an audience ("tidemill.rpc" or "tidemill.events")."""


@dataclass(frozen=True)
class Answer:
    """A finished answer with its id and its trace, which feedback on it may join."""

    answer_id: str
    release_id: str
    canary: bool
    completed: GenerationCompleted
    traceparent: str = ""


class Client:
    """One tenant's view of a mesh; open it with connect()."""

    def __init__(
        self, tenant_id: str, tokens: TokenSource, producer: AIOKafkaProducer, channels: Channels
    ) -> None:
        self.tenant_id = tenant_id
        self.tokens = tokens
        self.channels = channels
        self._producer = producer

    @property
    def token(self) -> str:
        """A token for RPCs."""
        return self.tokens("tidemill.rpc")

    async def submit_document(
        self, document_id: str, media_type: str, content: bytes, *, title: str = "", uri: str = ""
    ) -> str:
        """Put a document on the log; returns the event's id once the broker has it."""
        message = DocumentSubmitted(
            document_id=document_id,
            media_type=media_type,
            content=content,
            title=title,
            source_uri=uri,
            submitted_time=timestamp(),
        )
        return await self._publish(DOCUMENTS_SUBMITTED, document_id, message)

    async def withdraw_document(self, document_id: str) -> str:
        message = DocumentWithdrawn(document_id=document_id, withdrawn_time=timestamp())
        return await self._publish(DOCUMENTS_WITHDRAWN, document_id, message)

    async def submit_feedback(self, feedback: FeedbackSubmitted, *, traceparent: str = "") -> str:
        """Put feedback on the log; returns the event's id once the broker has it.

        traceparent: the answer's, so that question, feedback and training are one trace.
        """
        return await self._publish(FEEDBACK_SUBMITTED, feedback.answer_id, feedback, traceparent)

    async def document_submission(self, event_id: str) -> Submission | None:
        """What became of a document's event that this client put on the log; None before ingest
        has read it."""
        stub = IngestServiceStub(self.channels.to("ingest"))
        request = ingest.GetSubmissionRequest(source=source_of(PRODUCER), event_id=event_id)
        return await self._submission(stub.GetSubmission, request)

    async def feedback_submission(self, event_id: str) -> Submission | None:
        """The same of feedback."""
        stub = InferenceServiceStub(self.channels.to("inference"))
        request = inference.GetSubmissionRequest(source=source_of(PRODUCER), event_id=event_id)
        return await self._submission(stub.GetSubmission, request)

    async def _submission(self, rpc: Any, request: Message) -> Submission | None:
        try:
            response = await call(rpc, request, token=self.token, timeout=LOOK_SECONDS)
        except Fault as fault:
            if fault.reason is Reason.NOT_FOUND:
                return None
            raise
        found: Submission = response.submission
        return found

    async def generate(
        self, question: str, *, end_user_id: str = "", timeout: float = ANSWER_SECONDS
    ) -> AsyncIterator[GenerateResponse]:
        """Stream an answer: started, text deltas, completed.

        A mesh that refuses because it is overloaded is asked again, ATTEMPTS times in all, no
        sooner than it says and within the timeout; never once an answer has begun.
        """
        stub = InferenceServiceStub(self.channels.to("inference"))
        request = GenerateRequest(question=question, end_user_id=end_user_id)
        ends, begun = time.monotonic() + timeout, False
        for attempt in range(1, ATTEMPTS + 1):
            left = ends - time.monotonic()
            try:
                async for response in stream(
                    stub.Generate, request, token=self.token, timeout=left
                ):
                    begun = True
                    yield response
                return
            except Fault as fault:
                wait = wait_for_overload(fault)
                late = wait is None or wait >= ends - time.monotonic()
                if begun or late or attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(wait or 0.0)

    async def ask(self, question: str, *, end_user_id: str = "") -> Answer:
        """The whole answer at once."""
        started = GenerationStarted()
        async for response in self.generate(question, end_user_id=end_user_id):
            if response.HasField("started"):
                started = response.started
            if response.HasField("completed"):
                return Answer(
                    started.answer_id,
                    started.release_id,
                    started.canary,
                    response.completed,
                    started.traceparent,
                )
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, detail="stream ended early")

    async def _publish(
        self, topic: Topic[M], aggregate_id: str, message: M, traceparent: str = ""
    ) -> str:
        event_id = new_id("evt")
        headers = event_headers(topic, event_id, PRODUCER, datetime.now(UTC))
        headers[TOKEN] = self.tokens("tidemill.events")
        headers[TRACEPARENT] = traceparent or new_traceparent()
        await send(self._producer, topic.name, f"{self.tenant_id}/{aggregate_id}", message, headers)
        return event_id


async def send(
    producer: AIOKafkaProducer, topic: str, key: str, message: Message, headers: dict[str, str]
) -> None:
    pairs = [(name, value.encode()) for name, value in headers.items()]
    try:
        async with asyncio.timeout(PUBLISH_SECONDS):
            await producer.send_and_wait(
                topic, message.SerializeToString(), key=key.encode(), headers=pairs
            )
    except (KafkaError, TimeoutError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error


def wait_for_overload(fault: Fault) -> float | None:
    """Seconds to wait before the next try: the server's hint, and up to as much again, so that
    those who were refused together do not come back together; None when trying again is no use."""
    if fault.reason is not Reason.OVERLOADED:
        return None
    hint = OVERLOAD_SECONDS if fault.retry_after is None else fault.retry_after
    return hint + Backoff(hint, hint).delay(1)


def timestamp() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC))
    return stamp


def new_traceparent() -> str:
    """A sampled trace that starts with this event."""
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


@asynccontextmanager
async def connect(
    settings: MeshSettings, tenant_id: str, tokens: TokenSource
) -> AsyncIterator[Client]:
    """A client of the mesh that the settings name; Fault when its broker does not answer."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_address,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=20_000,
        linger_ms=2,
    )
    channels = Channels(settings)
    try:
        async with asyncio.timeout(PUBLISH_SECONDS):
            await producer.start()
    except (KafkaError, TimeoutError, OSError) as error:
        await say_goodbye(producer)
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
    try:
        yield Client(tenant_id, tokens, producer, channels)
    finally:
        await say_goodbye(producer)
        await channels.close()
