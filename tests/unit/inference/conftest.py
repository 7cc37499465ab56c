"""Inference on the real core, real rows and real gRPC; its neighbours follow a script."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from services.inference.adapters.store import Base
from services.inference.handlers.answering import Answering
from services.inference.handlers.feedback import FeedbackTaking
from services.inference.handlers.opening import answering
from services.inference.servicer import InferenceServicer
from services.inference.settings import InferenceSettings
from tests.tables import create_tables
from tests.unit.inference.neighbours import Neighbours, ScriptedModel
from tidemill.api.inference.v1 import GenerateRequest, GenerateResponse, InferenceServiceStub
from tidemill.api.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from tidemill.bus.tables import OutboxRow
from tidemill.rpc import stream
from tidemill.runtime import Runtime, open_runtime
from tidemill.settings import MeshSettings
from tidemill.topics import M, Topic

SCOPES = ("answers:write", "feedback:write")
SERVICE = "tidemill.api.inference.v1.InferenceService"


@dataclass
class House:
    """A served inference and everything around it that a test may look at."""

    runtime: Runtime
    parts: Answering
    model: ScriptedModel
    neighbours: Neighbours
    stub: Any = field(repr=False)

    def token(self, tenant: str = "harbor", *more: str) -> str:
        return self.runtime.identity.mint(tenant, [*SCOPES, *more], subject="test")

    async def ask(
        self, question: str = "How many days of leave?", token: str = "", **fields: Any
    ) -> list[GenerateResponse]:
        timeout = fields.pop("timeout", 30.0)
        request = GenerateRequest(question=question, **fields)
        calls = stream(self.stub.Generate, request, token=token or self.token(), timeout=timeout)
        return [response async for response in calls]

    async def events(self, topic: Topic[M]) -> list[M]:
        """What waits in the outbox for a topic, oldest first."""
        async with self.runtime.database.session() as session:
            rows = await session.scalars(
                select(OutboxRow).where(OutboxRow.topic == topic.name).order_by(OutboxRow.position)
            )
            return [topic.message.FromString(row.value) for row in rows]


@pytest.fixture
async def neighbours() -> AsyncIterator[Neighbours]:
    neighbours = Neighbours()
    server = await neighbours.start()
    yield neighbours
    await server.stop(None)


@pytest.fixture
async def house(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings], neighbours: Neighbours
) -> AsyncIterator[House]:
    address = f"127.0.0.1:{neighbours.port}"
    mesh = mesh_settings(tmp_path, service_addresses=f"embedder={address},retriever={address}")
    async with open_runtime("inference", mesh) as runtime:
        yield await serve(runtime, InferenceSettings(), ScriptedModel(), neighbours)


@pytest.fixture
async def small_house(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings], neighbours: Neighbours
) -> AsyncIterator[House]:
    """One answer at a time, one waiting, and short waits."""
    address = f"127.0.0.1:{neighbours.port}"
    mesh = mesh_settings(tmp_path, service_addresses=f"embedder={address},retriever={address}")
    settings = InferenceSettings(concurrent=1, waiting=1, wait_seconds=5.0, retrieval_seconds=0.3)
    async with open_runtime("inference", mesh) as runtime:
        yield await serve(runtime, settings, ScriptedModel(), neighbours)


async def serve(
    runtime: Runtime, settings: InferenceSettings, model: Any, neighbours: Neighbours
) -> House:
    await create_tables(runtime.database, Base.metadata)
    parts = replace(answering(runtime, settings, model), model=model)
    feedback = FeedbackTaking(
        runtime.database, runtime.bus, runtime.clock, runtime.telemetry.tracer
    )
    servicer = InferenceServicer(parts, feedback, settings.default_output_tokens)
    add_InferenceServiceServicer_to_server(servicer, runtime.server.grpc)
    await runtime.server.start([SERVICE])
    return House(
        runtime, parts, model, neighbours, InferenceServiceStub(runtime.channels.to("inference"))
    )
