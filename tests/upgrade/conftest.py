"""The release before this one, once for all tests."""

import pytest

from tests.upgrade.releases import Release, check_out


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return check_out(tmp_path_factory.mktemp("previous"))
