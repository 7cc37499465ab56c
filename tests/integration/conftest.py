"""What suites on a real model server share: one of them, and one worker that runs them all."""

from collections.abc import Iterator

import pytest

from tests.home import INSTALLED, new_home
from tests.integration.triton_process import Triton
from tests.ports import free_port_base


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A model server with its own adapters on the prepared weights."""
    if not (INSTALLED / "models").exists():
        pytest.skip("the models are not set up: make setup")
    server = Triton(new_home(tmp_path_factory.mktemp("triton")), free_port_base())
    yield server
    server.stop()
