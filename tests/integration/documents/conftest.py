"""The document path on real parts: broker, Triton, ingest, embedder, retriever."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.ingest.app import lifespan as ingest
from tests.conftest import BrokerProcess, free_port_base
from tests.integration.documents.outside import Outside, outside_of
from tidemill.settings import MeshSettings

PREPARED = Path(os.environ.get("TIDEMILL_TEST_HOME", Path(__file__).parents[3] / ".tidemill"))


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real model server on the prepared weights."""
    if not (PREPARED / "models").exists():
        pytest.skip("the models are not set up: make setup")
    home = tmp_path_factory.mktemp("triton")
    for part in ("models", "tools"):
        (home / part).symlink_to((PREPARED / part).resolve())
    port = free_port_base()
    command = [sys.executable, "-m", "tidemill.modelserver", "--home", str(home)]
    with (home / "triton.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--grpc-port", str(port)], stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    with process.stdout as lines:
        line = lines.readline()
        assert line.startswith("ready "), f"the model server did not start: {line!r}"
        yield f"127.0.0.1:{port}"
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def settings(
    broker: BrokerProcess, tmp_path: Path, mesh_settings: Callable[..., MeshSettings]
) -> MeshSettings:
    return mesh_settings(tmp_path / "home", kafka=broker.bootstrap)


@pytest.fixture
async def outside(settings: MeshSettings, mint: Callable[..., str]) -> AsyncIterator[Outside]:
    async with outside_of(settings, mint) as one:
        yield one


@pytest.fixture
async def ingesting(
    settings: MeshSettings, run_service: Any, outside: Outside
) -> AsyncIterator[Outside]:
    """Ingest alone, and someone outside."""
    async with run_service("ingest", settings, ingest):
        yield outside
