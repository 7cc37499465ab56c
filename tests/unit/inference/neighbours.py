"""Inference's neighbours at their contracts: embedder and retriever over gRPC, and a model that
plays a script. They answer, fail, stall and count."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from services.inference.domain.completion import CompletionRequest, Delta
from tidemill.api.common.v1 import Chunk, EmbeddingModel
from tidemill.api.embedder.v1 import EmbedderServiceServicer, EmbedRequest, EmbedResponse
from tidemill.api.embedder.v1.embedder_service_pb2_grpc import (
    add_EmbedderServiceServicer_to_server,
)
from tidemill.api.retriever.v1 import (
    RetrieverServiceServicer,
    ScoredChunk,
    SearchRequest,
    SearchResponse,
)
from tidemill.api.retriever.v1.retriever_service_pb2_grpc import (
    add_RetrieverServiceServicer_to_server,
)
from tidemill.faults import Fault
from tidemill.rpc.errors import to_status

VECTOR = np.full(4, 0.5, dtype="<f4").tobytes()
MODEL = EmbeddingModel(name="tiny", version="v1", dimensions=4)


def scored(ordinal: int, text: str, score: float, title: str = "Annual leave") -> ScoredChunk:
    chunk = Chunk(
        chunk_id=f"chunk-{ordinal}",
        document_id="hr/annual-leave",
        version=2,
        ordinal=ordinal,
        headings=["Entitlement"],
        text=text,
    )
    return ScoredChunk(
        chunk=chunk, score=score, title=title, source_uri="https://example.com/leave"
    )


LEAVE_CHUNKS = (
    scored(0, "Every employee gets 27 days of annual leave.", 0.71),
    scored(1, "Leave is requested in the portal Driftwood.", 0.52),
    scored(2, "Carried leave expires on 30 April.", 0.33),
)


@dataclass
class Neighbours(EmbedderServiceServicer, RetrieverServiceServicer):
    """Embedder and retriever on one port."""

    chunks: Sequence[ScoredChunk] = LEAVE_CHUNKS
    fault: Fault | None = None
    stall: bool = False
    tokens: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    searches: list[SearchRequest] = field(default_factory=list)
    port: int = 0

    async def start(self) -> grpc.aio.Server:
        server = grpc.aio.server()
        add_EmbedderServiceServicer_to_server(self, server)
        add_RetrieverServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server

    async def Embed(self, request: EmbedRequest, context: Any) -> EmbedResponse:
        self.tokens.append(dict(context.invocation_metadata())["authorization"])
        self.questions.extend(request.texts)
        return EmbedResponse(vectors=[VECTOR] * len(request.texts), embedding_model=MODEL)

    async def Search(self, request: SearchRequest, context: Any) -> SearchResponse:
        self.tokens.append(dict(context.invocation_metadata())["authorization"])
        self.searches.append(request)
        if self.stall:
            await asyncio.Event().wait()
        if self.fault:
            await context.abort_with_status(to_status(self.fault))
        return SearchResponse(chunks=self.chunks)


@dataclass
class ScriptedModel:
    """Plays its script as deltas; gates let a test stop time between them."""

    name: str = "scripted"
    script: Sequence[str | Fault] = ("27", " days", " [1]")
    finish_reason: str = "stop"
    requests: list[CompletionRequest] = field(default_factory=list)
    loaded: dict[str, Path] = field(default_factory=dict)
    load_fault: Fault | None = None
    pause_after: int | None = None
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_early: int = 0
    running: int = 0
    most_running: int = 0

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        finished = False
        try:
            for place, step in enumerate(self.script):
                if place == self.pause_after:
                    self.paused.set()
                    await self.resume.wait()
                if isinstance(step, Fault):
                    finished = True
                    raise step
                yield self._delta(step, place)
            finished = True
        finally:
            self.running -= 1
            self.stopped_early += not finished

    def _delta(self, text: str, place: int) -> Delta:
        last = place == len(self.script) - 1
        return Delta(text, 300, 1, self.finish_reason if last else "")

    async def load_adapter(self, name: str, folder: Path) -> None:
        if self.load_fault:
            raise self.load_fault
        self.loaded[name] = folder
