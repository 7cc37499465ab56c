"""Inference among its real neighbours: broker, Triton, embedder and retriever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from services.embedder.app import lifespan as embedder
from services.inference.app import lifespan as inference
from services.retriever.app import lifespan as retriever
from tests.conftest import BrokerProcess
from tests.integration.inference.mesh import Mesh, index_documents
from tests.integration.triton_process import Triton
from tests.ports import free_port_base
from tidemill.bus.admin import create_topics
from tidemill.modelserver.layout import locate
from tidemill.runtime import Lifespan, Runtime, running
from tidemill.settings import MeshSettings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(triton: Triton, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Three services on a fresh broker, with three documents of the tenant "harbor" indexed."""
    home = tmp_path_factory.mktemp("mesh")
    broker = BrokerProcess(home / "broker").start()
    await create_topics(broker.bootstrap)
    repository = locate(triton.home).repository
    settings = MeshSettings(
        home=home, port_base=free_port_base(), kafka=broker.bootstrap, triton=triton.address
    )
    async with AsyncExitStack() as stack:
        stack.callback(broker.stop)
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("TIDEMILL_INFERENCE_MODEL_REPOSITORY", str(repository))
        for name, lifespan in (("embedder", embedder), ("retriever", retriever)):
            await ready(stack, name, settings, lifespan)
        runtime = await ready(stack, "inference", settings, inference)
        mesh = Mesh(runtime, settings)
        await index_documents(mesh)
        yield mesh


async def ready(
    stack: AsyncExitStack, name: str, settings: MeshSettings, lifespan: Lifespan
) -> Runtime:
    """A service that serves and consumes until the stack unwinds."""
    runtime = await stack.enter_async_context(running(name, settings, lifespan))
    async with asyncio.timeout(30):
        await runtime.bus.ready()
    return runtime
