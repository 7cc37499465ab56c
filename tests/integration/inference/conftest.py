"""Inference among its real neighbours: broker, Triton, embedder and retriever."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from services.embedder.app import lifespan as embedder
from services.inference.app import lifespan as inference
from services.retriever.app import lifespan as retriever
from tests.conftest import BrokerProcess, free_port_base
from tests.integration.inference.mesh import Mesh, index_documents
from tidemill.bus.admin import create_topics
from tidemill.modelserver.layout import locate
from tidemill.runtime import Lifespan, Runtime, running
from tidemill.settings import MeshSettings

PREPARED = Path(os.environ.get("TIDEMILL_TEST_HOME", Path(__file__).parents[3] / ".tidemill"))
STUB = "triton_python_backend_stub"


class Triton:
    """The supervised model server in a child process."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "tidemill.modelserver", "--home", str(home)]
        with (home / "triton.err").open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--grpc-port", str(port)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"the model server did not start: {line!r}"

    def kill_model(self, name: str) -> None:
        """kill -9 of one model's process, as the kernel does when memory runs out."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if STUB in child.name() + " ".join(child.cmdline()[:1]) and name in child.cmdline()[1]:
                child.kill()
                return
        raise AssertionError(f"no process serves {name}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A model server with its own adapters on the prepared weights."""
    if not (PREPARED / "models").exists():
        pytest.skip("the models are not set up: python -m tidemill.modelserver.install")
    home = tmp_path_factory.mktemp("triton")
    for part in ("models", "tools"):
        (home / part).symlink_to((PREPARED / part).resolve())
    server = Triton(home, free_port_base())
    yield server
    server.stop()


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
