"""The document path on real parts: broker, Triton, ingest, embedder, retriever."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.ingest.app import lifespan as ingest
from tests.conftest import BrokerProcess
from tests.integration.documents.outside import Outside, outside_of
from tidemill.settings import MeshSettings


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
