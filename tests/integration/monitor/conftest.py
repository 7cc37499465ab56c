"""The monitor over the real broker, driven through its doors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.monitor.app import lifespan
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.api.monitor import v1 as api
from tidemill.bus import Delivery, UnitOfWork
from tidemill.rpc import Channels, call
from tidemill.runtime import Runtime
from tidemill.settings import MeshSettings

TENANT = "acme"
SCOPES = ("alerts:read", "budgets:write")
NEWS_SECONDS = 240.0
SMALL = {
    "POLL_SECONDS": "0.05",
    "DRIFT_REFERENCE": "40",
    "DRIFT_WINDOW": "20",
    "SHARE_REFERENCE": "50",
    "SHARE_WINDOW": "20",
}
"""Smaller windows, so that a test needs fewer events."""


@dataclass
class Watched:
    """The alerts that left the monitor."""

    alerts: list[events.AlertRaised] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def collect(self, message: events.AlertRaised, delivery: Delivery) -> None:
        async with self.news:
            self.alerts.append(message)
            self.news.notify_all()

    async def until(self, n: int) -> list[events.AlertRaised]:
        """The alerts once there are n."""
        async with asyncio.timeout(NEWS_SECONDS), self.news:
            await self.news.wait_for(lambda: len(self.alerts) >= n)
        return self.alerts


@dataclass
class Stage:
    """Tells the monitor events and asks it."""

    settings: MeshSettings
    producer: Runtime
    channels: Channels
    watched: Watched
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]]
    mint: Callable[..., str]

    def monitor(self) -> AbstractAsyncContextManager[Runtime]:
        return self.run_service("monitor", self.settings, lifespan)

    async def call(self, method: str, request: Any, tenant: str = TENANT) -> Any:
        stub = api.MonitorServiceStub(self.channels.to("monitor"))
        token = self.mint(self.settings, tenant, *SCOPES)
        return await call(getattr(stub, method), request, token=token, timeout=10.0)

    async def publish(self, messages: list[events.AnswerGenerated]) -> None:
        def publish_all(unit: UnitOfWork) -> None:
            for message in messages:
                unit.publish(topics.ANSWERS_GENERATED, message.answer_id, message)

        await self.producer.bus.write(TENANT, publish_all)

    async def thumb(self, answer_id: str, *, up: bool) -> None:
        message = events.FeedbackRecorded(
            feedback_id=f"fb-{answer_id}", answer_id=answer_id, thumb=events.Thumb(up=up)
        )
        await self.producer.bus.write(
            TENANT, lambda unit: unit.publish(topics.FEEDBACK_RECORDED, answer_id, message)
        )

    async def until_counted(self, answers: int) -> api.GetUsageResponse:
        """Usage once so many answers are counted."""
        async with asyncio.timeout(NEWS_SECONDS):
            while True:
                usage: api.GetUsageResponse = await self.call("GetUsage", api.GetUsageRequest())
                if sum(release.answers for release in usage.releases) >= answers:
                    return usage
                await asyncio.sleep(0.05)


def answer(
    answer_id: str,
    at: datetime,
    *,
    release_id: str = "base",
    cost: int = 100,
    seconds: float = 0.5,
    vector: Any = None,
    production: bool = True,
    **facts: Any,
) -> events.AnswerGenerated:
    """An answer as inference tells it."""
    message = events.AnswerGenerated(
        tenant_id=TENANT,
        answer_id=answer_id,
        release_id=release_id,
        finish_reason=facts.pop("finish_reason", "stop"),
        duration_seconds=seconds,
        purpose=events.PURPOSE_PRODUCTION if production else events.PURPOSE_EVALUATION,
        question_embedding=b"" if vector is None else np.asarray(vector, dtype="<f4").tobytes(),
        **facts,
    )
    message.usage.input_tokens, message.usage.output_tokens = 300, 20
    message.usage.cost_micros = cost
    message.answered_time.FromDatetime(at)
    return message


@pytest.fixture
async def stage(
    tmp_path: Path,
    broker: Any,
    monkeypatch: pytest.MonkeyPatch,
    mesh_settings: Callable[..., MeshSettings],
    run_service: Callable[..., AbstractAsyncContextManager[Runtime]],
    mint: Callable[..., str],
) -> AsyncIterator[Stage]:
    """The mesh without the monitor; a test starts it."""
    for name, value in SMALL.items():
        monkeypatch.setenv(f"TIDEMILL_MONITOR_{name}", value)
    settings, watched = mesh_settings(tmp_path, kafka=broker.bootstrap), Watched()

    @asynccontextmanager
    async def listening(runtime: Runtime) -> AsyncIterator[None]:
        runtime.bus.subscribe(topics.ALERTS_RAISED, watched.collect)
        yield

    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(run_service("inference", settings, listening))
        channels = Channels(settings)
        stack.push_async_callback(channels.close)
        yield Stage(settings, producer, channels, watched, run_service, mint)
