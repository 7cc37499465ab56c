"""What suites on a real model server share: one of them, and one worker that runs them all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port_base
from tests.integration.triton_process import Triton

PREPARED = Path(os.environ.get("TIDEMILL_TEST_HOME", Path(__file__).parents[2] / ".tidemill"))


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A model server with its own adapters on the prepared weights."""
    if not (PREPARED / "models").exists():
        pytest.skip("the models are not set up: make setup")
    home = tmp_path_factory.mktemp("triton")
    for part in ("models", "tools"):
        (home / part).symlink_to((PREPARED / part).resolve())
    server = Triton(home, free_port_base())
    yield server
    server.stop()
