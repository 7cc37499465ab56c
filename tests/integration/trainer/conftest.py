"""The trainer on a real broker, with real training processes over a tiny model."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.trainer.app import lifespan
from tests.unit.trainer.tiny_model import make_tiny_model
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.api.trainer import v1 as api
from tidemill.rpc import Channels, call
from tidemill.runtime import Runtime
from tidemill.settings import MeshSettings

TENANT = "harbor"
SECONDS = 240.0
WORDS = [f"w{number}" for number in range(60)]


@dataclass
class Stage:
    """Drives the trainer through its own doors; keeps the adapters it announced."""

    settings: MeshSettings
    producer: Runtime
    channels: Channels
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]]
    mint: Callable[..., str]
    adapters: list[events.AdapterTrained] = field(default_factory=list)

    def trainer(self) -> AbstractAsyncContextManager[Runtime]:
        return self.run_service("trainer", self.settings, lifespan)

    async def call(self, method: str, request: Any, tenant: str = TENANT) -> Any:
        stub = api.TrainerServiceStub(self.channels.to("trainer"))
        token = self.mint(self.settings, tenant, "training:read")
        return await call(getattr(stub, method), request, token=token, timeout=10.0)

    async def answer(self, number: int, tenant: str = TENANT, **changes: Any) -> None:
        word, other = WORDS[number % 60], WORDS[(number * 7) % 60]
        message = events.AnswerGenerated(
            tenant_id=tenant,
            answer_id=f"ans-{number}",
            user_hash=f"user-{number}",
            prompt=f"[1] {word} {other}\n\nQuestion: {word} {number}",
            completion=other,
            chunks=[events.RetrievedChunk(chunk_id=f"c{number}", document_id="leave", marker=1)],
            finish_reason="stop",
            purpose=events.PURPOSE_PRODUCTION,
        )
        message.MergeFrom(events.AnswerGenerated(**changes))
        await self.producer.bus.write(
            tenant,
            lambda unit: unit.publish(topics.ANSWERS_GENERATED, message.answer_id, message),
        )

    async def correct(self, number: int, tenant: str = TENANT, document: str = "leave") -> None:
        text = WORDS[number % 60]
        correction = events.Correction(text=text, document_ids=[document])
        message = events.FeedbackRecorded(
            feedback_id=f"fb-{number}", answer_id=f"ans-{number}", correction=correction
        )
        message.recorded_time.FromSeconds(1_700_000_000 + number)
        await self.producer.bus.write(
            tenant,
            lambda unit: unit.publish(topics.FEEDBACK_RECORDED, message.answer_id, message),
        )

    async def trigger(self, tenant: str = TENANT) -> Any:
        return await self.call("GetTrigger", api.GetTriggerRequest(), tenant)

    async def runs(self) -> list[Any]:
        return list((await self.call("ListRuns", api.ListRunsRequest())).runs)

    async def trained(self, count: int = 1) -> events.AdapterTrained:
        async def enough() -> bool:
            return len(self.adapters) >= count

        await eventually(enough)
        return self.adapters[count - 1]


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = SECONDS) -> Any:
    """Wait until the condition gives something true; its value is returned."""
    async with asyncio.timeout(seconds):
        while True:
            if value := await condition():
                return value
            await asyncio.sleep(0.2)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    """Train on eight corrections at once, over the tiny model."""
    monkeypatch.setenv("TIDEMILL_LLM", str(tiny_model))
    for name, value in {
        "MIN_FEEDBACK": "8",
        "QUIET_SECONDS": "0.2",
        "POLL_SECONDS": "0.25",
        "RETRY_SECONDS": "0.1",
        "NICENESS": "0",
        "THREADS": "1",
        "TRACKING": "off",
    }.items():
        monkeypatch.setenv(f"TIDEMILL_TRAINER_{name}", value)


@asynccontextmanager
async def on_stage(
    settings: MeshSettings,
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]],
    mint: Callable[..., str],
) -> AsyncIterator[Stage]:
    """A producer that also listens for adapters; a test starts the trainer."""
    adapters: list[events.AdapterTrained] = []

    @asynccontextmanager
    async def listen(runtime: Runtime) -> AsyncIterator[None]:
        async def heard(event: events.AdapterTrained, delivery: Any) -> None:
            adapters.append(event)

        runtime.bus.subscribe(topics.ADAPTERS_TRAINED, heard)
        yield

    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(run_service("inference", settings, listen))
        channels = Channels(settings)
        stack.push_async_callback(channels.close)
        yield Stage(settings, producer, channels, run_service, mint, adapters)


@pytest.fixture
async def stage(
    eager: None,
    tmp_path: Path,
    broker: Any,
    mesh_settings: Callable[..., MeshSettings],
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]],
    mint: Callable[..., str],
) -> AsyncIterator[Stage]:
    settings = mesh_settings(tmp_path, kafka=broker.bootstrap)
    async with on_stage(settings, run_service, mint) as one:
        yield one
