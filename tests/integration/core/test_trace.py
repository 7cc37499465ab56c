"""One trace from a gRPC call through the outbox and Kafka to another service and its call back."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tidemill import topics
from tidemill.api.embedder.v1 import (
    EmbedderServiceServicer,
    EmbedderServiceStub,
    EmbedRequest,
    EmbedResponse,
)
from tidemill.api.embedder.v1.embedder_service_pb2_grpc import (
    add_EmbedderServiceServicer_to_server,
)
from tidemill.api.events.v1 import DocumentSubmitted
from tidemill.api.ingest.v1 import (
    IngestServiceServicer,
    IngestServiceStub,
    SubmitDocumentRequest,
    SubmitDocumentResponse,
)
from tidemill.api.ingest.v1.ingest_service_pb2_grpc import add_IngestServiceServicer_to_server
from tidemill.bus import Delivery
from tidemill.rpc import call, current_caller
from tidemill.rpc.access import access_of
from tidemill.runtime import Runtime


def token_for(runtime: Runtime, path: str, tenant: str) -> str:
    rule = access_of(path)
    assert rule is not None
    return runtime.identity.mint(tenant, [rule.scope])


class Ingest(IngestServiceServicer):
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def SubmitDocument(
        self, request: SubmitDocumentRequest, context: Any
    ) -> SubmitDocumentResponse:
        await self.runtime.bus.write(
            current_caller().tenant_id,
            lambda unit: unit.publish(topics.DOCUMENTS_SUBMITTED, "doc", DocumentSubmitted()),
        )
        return SubmitDocumentResponse()


class Embedder(EmbedderServiceServicer):
    async def Embed(self, request: EmbedRequest, context: Any) -> EmbedResponse:
        return EmbedResponse()


@asynccontextmanager
async def ingest(runtime: Runtime) -> AsyncIterator[None]:
    add_IngestServiceServicer_to_server(Ingest(runtime), runtime.server.grpc)
    yield


@asynccontextmanager
async def embedder(runtime: Runtime) -> AsyncIterator[None]:
    """Consumes the event and calls its own RPC, as another service's would be called."""

    async def handle(message: DocumentSubmitted, delivery: Delivery) -> None:
        stub = EmbedderServiceStub(runtime.channels.to("embedder"))
        path = "/tidemill.api.embedder.v1.EmbedderService/Embed"
        token = token_for(runtime, path, delivery.tenant_id)
        await call(stub.Embed, EmbedRequest(), token=token, timeout=5)

    add_EmbedderServiceServicer_to_server(Embedder(), runtime.server.grpc)
    runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, handle)
    yield


def spans(home: Path, service: str) -> list[dict[str, Any]]:
    file = home / service / "traces.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


async def test_call_event_delivery_and_call_are_one_trace(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    home = outside.settings.home
    async with (
        run_service("ingest", outside.settings, ingest) as first,
        run_service("embedder", outside.settings, embedder),
    ):
        path = "/tidemill.api.ingest.v1.IngestService/SubmitDocument"
        stub = IngestServiceStub(first.channels.to("ingest"))
        with first.telemetry.tracer.start_as_current_span("question") as asked:
            trace_id = f"{asked.get_span_context().trace_id:032x}"
            token = token_for(first, path, "acme")
            await call(stub.SubmitDocument, SubmitDocumentRequest(), token=token, timeout=5)

        async def embedded() -> bool:
            return any(s["name"].endswith("/Embed") for s in spans(home, "embedder"))

        await eventually(embedded)
    found = {s["name"]: s for s in [*spans(home, "ingest"), *spans(home, "embedder")]}
    chain = [
        "question",
        "tidemill.api.ingest.v1.IngestService/SubmitDocument",
        "process documents.submitted.v1",
        "tidemill.api.embedder.v1.EmbedderService/Embed",
    ]
    assert [found[name]["trace_id"] for name in chain] == [trace_id] * 4
    parents = [found[name]["parent_id"] for name in chain[1:]]
    assert parents == [found[name]["span_id"] for name in chain[:-1]]
