"""One real Triton with the real weights for the whole suite, and a reference to compare with.

What needs an address alone also runs on the Triton that TIDEMILL_TEST_TRITON names (host:port of
its gRPC), with the same two models; TIDEMILL_TEST_TRITON_REPOSITORY is its model repository as seen
from here, where adapters are added.
"""

import os
import socket
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.modelserver.reference import Reference
from tests.conformance.modelserver.served import Served
from tests.home import INSTALLED, new_home
from tidemill.modelserver import weights
from tidemill.modelserver.client import ModelServer
from tidemill.modelserver.install import install

GIVEN = "TIDEMILL_TEST_TRITON"
SERVER = pytest.StashKey[Served]()


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Served]:
    install(INSTALLED, lambda line: None)
    home = new_home(tmp_path_factory.mktemp("modelserver"))
    grpc_port, metrics_port = _free_ports(2)
    server = Served(home, grpc_port, metrics_port)
    pytestconfig.stash[SERVER] = server
    server.start()
    yield server
    server.stop()


@pytest.fixture
def served(server: Served) -> Served:
    """The one server, up at the start of every test."""
    server.settle()
    return server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """A failure shows what the server said."""
    report = yield
    server = item.config.stash.get(SERVER, None)
    if report.failed and server is not None:
        report.sections += list(server.logs().items())
    return report


@dataclass(frozen=True)
class Target:
    """A server by its address; repository: None where adapters cannot be added from here."""

    address: str
    repository: Path | None


@pytest.fixture(params=["embedded", *(["given"] if GIVEN in os.environ else [])])
def target(request: pytest.FixtureRequest) -> Target:
    if request.param == "embedded":
        served: Served = request.getfixturevalue("served")
        return Target(served.address, served.repository)
    if "served" in request.fixturenames:
        pytest.skip("looks into our own server's process")
    repository = os.environ.get(f"{GIVEN}_REPOSITORY")
    return Target(os.environ[GIVEN], Path(repository) if repository else None)


@pytest_asyncio.fixture
async def client(target: Target) -> AsyncIterator[ModelServer]:
    async with ModelServer(target.address, repository=target.repository) as server:
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
