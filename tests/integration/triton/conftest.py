"""One real Triton with the real weights for the whole suite, and a reference to compare with."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.home import INSTALLED, new_home
from tests.integration.triton.reference import Reference
from tests.integration.triton.served import Served
from tidemill.modelserver import weights
from tidemill.modelserver.client import ModelServer
from tidemill.modelserver.install import install


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    install(INSTALLED, lambda line: None)
    home = new_home(tmp_path_factory.mktemp("modelserver"))
    grpc_port, metrics_port = _free_ports(2)
    server = Served(home, grpc_port, metrics_port)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[ModelServer]:
    async with ModelServer(served.address, repository=served.repository) as server:
        yield server


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Transformers and PEFT on the same weights, with one adapter that changes the answers."""
    return Reference(weights.llm(INSTALLED).folder, tmp_path_factory.mktemp("adapter"))


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
