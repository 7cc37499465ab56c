"""Every test here runs on a milvus-lite file, on a server (milvus-lite's own, in a process), and on
the Milvus that TIDEMILL_TEST_MILVUS names."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from services.retriever.adapters.vector_store import VectorStore
from tests.conftest import free_port_base, is_free

GIVEN = "TIDEMILL_TEST_MILVUS"
START_SECONDS = 60.0
CALL_SECONDS = 30.0
DIMENSIONS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server on this machine."""
    port = free_port_base()
    command = [sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--data-dir", str(tmp_path_factory.mktemp("milvus"))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + START_SECONDS
    while is_free(port):
        assert time.monotonic() < deadline, "Milvus takes too long"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(params=["file", "server", "given"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "milvus.db")
    if request.param == "server":
        return str(request.getfixturevalue("server"))
    given = os.environ.get(GIVEN, "")
    if not given:
        pytest.skip(f"{GIVEN} names no Milvus")
    return given


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
