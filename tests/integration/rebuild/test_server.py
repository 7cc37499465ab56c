"""Rows on a PostgreSQL server are lost and come back from the log, in one transaction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.conftest import migrate_all
from tests.integration.documents.outside import outside_of
from tests.integration.rebuild.conftest import Mesh
from tests.integration.rebuild.test_index import fill, index_of, same_hits, search
from tests.integration.rebuilding import lost_and_rebuilt, rebuild, rebuilder
from tidemill.faults import StartRefused
from tidemill.rebuild import stores
from tidemill.settings import MeshSettings
from tidemill.topics import DOCUMENTS_SUBMITTED as SUBMITTED

MARKDOWN = "text/markdown"


@pytest.fixture
async def settings(
    postgres_server: str, broker: Any, tmp_path: Path, mesh_settings: Callable[..., MeshSettings]
) -> MeshSettings:
    """With rows on a server."""
    url = postgres.empty_database(postgres_server)
    await migrate_all(tmp_path, url)
    return mesh_settings(tmp_path / "home", kafka=broker.bootstrap, db=url)


async def test_an_index_comes_back_and_is_kept_while_its_service_runs(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LOCK_SECONDS", 1.0)
    async with mesh.service("retriever"):
        await fill(mesh)
        before, hits = await index_of(mesh), await search(mesh, "Annual leave is 30 days.")
        with pytest.raises(StartRefused, match="STORE_IN_USE"):
            await rebuild(mesh.settings, "retriever")
        assert await index_of(mesh) == before
    rebuilt = await lost_and_rebuilt(mesh.settings, "retriever")
    assert len(rebuilt.after) > 1
    async with mesh.service("retriever"):
        assert await index_of(mesh) == before
        assert same_hits(await search(mesh, "Annual leave is 30 days."), hits)


async def test_the_service_goes_on_counting_where_it_was(mesh: Mesh) -> None:
    async with outside_of(mesh.settings, mesh.mint) as outside:
        async with mesh.service("ingest"):
            await outside.submit(SUBMITTED, "leave", MARKDOWN, b"27 days.")
            await outside.becomes("leave", version=1)
        await lost_and_rebuilt(mesh.settings, "ingest")
        assert (await rebuilder(mesh.settings, "ingest").check()).same
        async with mesh.service("ingest"):
            await outside.submit(SUBMITTED, "leave", MARKDOWN, b"30 days.")
            await outside.becomes("leave", version=2)


async def test_tables_that_are_not_there_are_asked_for(mesh: Mesh, postgres_server: str) -> None:
    settings = mesh.settings.model_copy(update={"db": postgres.empty_database(postgres_server)})
    with pytest.raises(StartRefused, match="MIGRATION_PENDING"):
        await rebuild(settings, "monitor")


async def test_two_rebuilds_of_one_store_never_meet(mesh: Mesh) -> None:
    async with stores.store_of("monitor", mesh.settings).building():
        with pytest.raises(StartRefused, match="REBUILD_RUNNING"):
            await rebuild(mesh.settings, "monitor")
    assert (await rebuild(mesh.settings, "monitor")).before == {}
