"""Inference and retriever at the contract, over real gRPC with verified tokens; the events that
the evaluator tells are collected by a real consumer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.evaluator.domain.suites import Sample
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.api.inference import v1 as inference
from tidemill.api.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from tidemill.api.retriever import v1 as retriever
from tidemill.api.retriever.v1.retriever_service_pb2_grpc import (
    add_RetrieverServiceServicer_to_server,
)
from tidemill.bus import Delivery
from tidemill.faults import Fault
from tidemill.rpc import current_caller
from tidemill.runtime import Runtime

TENANT = "acme"
BASE = "base"
NEWS_SECONDS = 240.0

SAMPLES = [
    Sample(
        f"q-{n}", f"Question number {n}?", "" if n % 5 == 4 else f"answer {n}",
        () if n % 5 == 4 else (f"doc-{n}",),
    )
    for n in range(40)
]  # fmt: skip
BY_QUESTION = {sample.question: sample for sample in SAMPLES}


@dataclass
class Skill:
    """How a release answers: the share of samples that it gets right, of ten."""

    right_of_ten: int
    fault: Fault | None = None

    def completion(self, question: str) -> inference.GenerationCompleted:
        sample = BY_QUESTION[question]
        number = int(sample.sample_id.removeprefix("q-"))
        right = (number * 7) % 10 < self.right_of_ten
        done = inference.GenerationCompleted(duration_seconds=0.2, finish_reason="stop")
        done.usage.cost_micros = 100
        if right and not sample.answerable:
            done.refused, done.finish_reason = True, "refused"
            return done
        done.text = f"{sample.answer} [1]" if right else "no idea [1]"
        done.citations.add(marker=1, document_id=f"doc-{number}" if right else "doc-x")
        return done


@dataclass
class Mesh:
    """What the stand-ins do and what they saw."""

    skills: dict[str, Skill] = field(default_factory=lambda: {BASE: Skill(2)})
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: int = 0
    scopes: set[frozenset[str]] = field(default_factory=set)
    manifest: Callable[[], str] = lambda: "manifest-1"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    changes: list[events.ReleaseChanged] = field(default_factory=list)
    verdicts: list[events.EvaluationCompleted] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.gate.set()

    def asked_of(self, release_id: str) -> int:
        return sum(count for (name, _), count in self.asked.items() if name == release_id)

    def states(self) -> list[tuple[str, str]]:
        """Release and state of every change, in order."""
        return [(change.release.release_id, state_name(change.state)) for change in self.changes]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Waits for news until it is so."""
        async with asyncio.timeout(NEWS_SECONDS), self.news:
            await self.news.wait_for(is_so)

    async def until_state(self, release_id: str, state: str) -> events.ReleaseChanged:
        await self.until(lambda: (release_id, state) in self.states())
        return self.changes[self.states().index((release_id, state))]

    async def refuse(self) -> None:
        async with self.news:
            self.refused += 1
            self.news.notify_all()

    async def tell(self, kept: list[Any], message: Any) -> None:
        async with self.news:
            kept.append(message)
            self.news.notify_all()


def state_name(state: int) -> str:
    return events.ReleaseState.Name(state).removeprefix("RELEASE_STATE_")  # type: ignore[arg-type]


class Inference(inference.InferenceServiceServicer):
    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def Generate(
        self, request: inference.GenerateRequest, context: Any
    ) -> AsyncIterator[inference.GenerateResponse]:
        self._mesh.scopes.add(current_caller().scopes)
        await self._mesh.gate.wait()
        skill = self._mesh.skills[request.release_id]
        if skill.fault:
            await self._mesh.refuse()
            raise skill.fault
        self._mesh.asked[request.release_id, request.question] += 1
        async with self._mesh.news:
            self._mesh.news.notify_all()
        started = inference.GenerationStarted(answer_id=f"ans-{sum(self._mesh.asked.values())}")
        yield inference.GenerateResponse(started=started)
        yield inference.GenerateResponse(completed=skill.completion(request.question))

    async def RecordFeedback(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetAnswer(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


class Retriever(retriever.RetrieverServiceServicer):
    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def GetIndex(
        self, request: retriever.GetIndexRequest, context: Any
    ) -> retriever.GetIndexResponse:
        found = retriever.GetIndexResponse(manifest_hash=self._mesh.manifest())
        found.embedding_model.version = "minilm-1"
        return found

    async def Search(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


Handler = Callable[[Any, Delivery], Coroutine[Any, Any, None]]


def collector(mesh: Mesh, kept: list[Any]) -> Handler:
    async def collect(message: Any, delivery: Delivery) -> None:
        await mesh.tell(kept, message)

    return collect


def inference_lifespan(mesh: Mesh) -> Any:
    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        add_InferenceServiceServicer_to_server(Inference(mesh), runtime.server.grpc)
        runtime.bus.subscribe(topics.RELEASES_CHANGED, collector(mesh, mesh.changes))
        runtime.bus.subscribe(topics.EVALUATIONS_COMPLETED, collector(mesh, mesh.verdicts))
        yield

    return lifespan


def retriever_lifespan(mesh: Mesh) -> Any:
    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        add_RetrieverServiceServicer_to_server(Retriever(mesh), runtime.server.grpc)
        yield

    return lifespan
