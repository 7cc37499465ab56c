"""One mesh of processes for the suite."""

from collections.abc import Iterator

import pytest

from tests.e2e.mesh import Mesh, free_block
from tests.home import new_home


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that is not running yet; stopped at the end whatever happens."""
    mesh = Mesh(new_home(tmp_path_factory.mktemp("home")), free_block())
    try:
        yield mesh
    finally:
        mesh.run("down")
