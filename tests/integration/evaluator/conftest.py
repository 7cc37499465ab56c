"""A mesh around the evaluator: real broker, real gRPC, the evaluator itself in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.evaluator.app import lifespan
from tests.integration.evaluator.standins import (
    SAMPLES,
    TENANT,
    Mesh,
    inference_lifespan,
    retriever_lifespan,
)
from tidemill import topics
from tidemill.api.evaluator import v1 as api
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.rpc import Channels, call
from tidemill.runtime import Runtime
from tidemill.settings import MeshSettings

SCOPES = ("suites:write", "releases:read", "releases:write")


@dataclass
class Stage:
    """Drives the evaluator through its own doors."""

    mesh: Mesh
    settings: MeshSettings
    producer: Runtime
    channels: Channels
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]]
    mint: Callable[..., str]
    answers: int = field(default=0)

    def evaluator(self) -> AbstractAsyncContextManager[Runtime]:
        return self.run_service("evaluator", self.settings, lifespan)

    async def call(self, method: str, request: Any, tenant: str = TENANT) -> Any:
        stub = api.EvaluatorServiceStub(self.channels.to("evaluator"))
        token = self.mint(self.settings, tenant, *SCOPES)
        return await call(getattr(stub, method), request, token=token, timeout=10.0)

    async def create_suite(self) -> str:
        samples = [
            api.Sample(
                sample_id=sample.sample_id,
                question=sample.question,
                answer=sample.answer,
                document_ids=sample.document_ids,
            )
            for sample in SAMPLES
        ]
        made = await self.call(
            "CreateSuite", api.CreateSuiteRequest(suite_id="numbers", samples=samples)
        )
        return str(made.suite_hash)

    async def train(self, adapter: str) -> None:
        message = events.AdapterTrained(
            tenant_id=TENANT, adapter=adapter, artifact_uri=f"file:///x/{adapter}",
            artifact_hash="ab" * 32,
        )  # fmt: skip
        await self.producer.bus.write(
            TENANT, lambda unit: unit.publish(topics.ADAPTERS_TRAINED, adapter, message)
        )

    async def answer(self, release_id: str, n: int, *, error: bool = False, **facts: Any) -> None:
        """Users ask a release n questions."""
        live = [self.live_answer(release_id, error=error, **facts) for _ in range(n)]

        def publish_all(unit: UnitOfWork) -> None:
            for message in live:
                unit.publish(topics.ANSWERS_GENERATED, message.answer_id, message)

        await self.producer.bus.write(TENANT, publish_all)

    def live_answer(self, release_id: str, *, error: bool, **facts: Any) -> events.AnswerGenerated:
        self.answers += 1
        message = events.AnswerGenerated(
            tenant_id=TENANT,
            answer_id=f"live-{self.answers}",
            release_id=release_id,
            purpose=events.PURPOSE_PRODUCTION,
            finish_reason="error" if error else "stop",
            duration_seconds=0.3,
            **facts,
        )
        message.answered_time.FromDatetime(self.producer.clock.now())
        return message


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RUN_POLL_SECONDS": "0.05",
        "RUN_BACKOFF_SECONDS": "0.01",
        "RUN_RERUN_SECONDS": "0.1",
        "RUN_MAX_RUNS": "400",
        "CANARY_MIN_SECONDS": "0",
    }.items():
        monkeypatch.setenv(f"TIDEMILL_EVALUATOR_{name}", value)


@pytest.fixture
async def stage(
    fast: None,
    tmp_path: Path,
    broker: Any,
    mesh_settings: Callable[..., MeshSettings],
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]],
    mint: Callable[..., str],
) -> AsyncIterator[Stage]:
    """The mesh without the evaluator; a test starts it."""
    settings, mesh = mesh_settings(tmp_path, kafka=broker.bootstrap), Mesh()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            run_service("retriever", settings, retriever_lifespan(mesh))
        )
        producer = await stack.enter_async_context(
            run_service("inference", settings, inference_lifespan(mesh))
        )
        channels = Channels(settings)
        stack.push_async_callback(channels.close)
        yield Stage(mesh, settings, producer, channels, run_service, mint)
