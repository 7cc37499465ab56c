"""Every test here runs on a milvus-lite file, on a server (milvus-lite's own, in a process), and on
the Milvus that TIDEMILL_TEST_MILVUS names."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from services.retriever.adapters.vector_store import VectorStore
from tests import milvus
from tests.given import given
from tests.ports import free_port_base

GIVEN = "TIDEMILL_TEST_MILVUS"
CALL_SECONDS = 30.0
DIMENSIONS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server on this machine."""
    port = free_port_base()
    process = milvus.start(tmp_path_factory.mktemp("milvus"), port)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(params=["file", "server", "given"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "milvus.db")
    if request.param == "server":
        return str(request.getfixturevalue("server"))
    return given(GIVEN, "Milvus")


@pytest.fixture
def collection(address: str) -> Iterator[str]:
    """A name that nobody else has; dropped afterwards, as a server may be somebody's."""
    name = f"tidemill_test_{uuid.uuid4().hex[:12]}"
    yield name
    if address.startswith("http"):
        client = MilvusClient(uri=address, timeout=CALL_SECONDS)
        client.drop_collection(name)
        client.close()


@pytest.fixture
async def store(address: str, collection: str) -> AsyncIterator[VectorStore]:
    """With an empty collection."""
    async with VectorStore(address, CALL_SECONDS) as one:
        await one.create_collection(collection, DIMENSIONS)
        yield one
