"""What inference knows survives its process."""

from collections.abc import Callable
from pathlib import Path

from services.inference.adapters.store import Base, load_releases, save_release
from services.inference.domain.releases import Release, State
from services.inference.settings import InferenceSettings
from tests.tables import create_tables
from tests.unit.inference.conftest import serve
from tests.unit.inference.neighbours import Neighbours, ScriptedModel
from tidemill.api.inference.v1 import RecordFeedbackRequest
from tidemill.rpc import call
from tidemill.runtime import open_runtime
from tidemill.settings import MeshSettings


async def test_releases_and_answers_are_there_after_a_restart(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings], neighbours: Neighbours
) -> None:
    address = f"127.0.0.1:{neighbours.port}"
    mesh = mesh_settings(tmp_path, service_addresses=f"embedder={address},retriever={address}")
    async with open_runtime("inference", mesh) as runtime:
        house = await serve(runtime, InferenceSettings(), ScriptedModel(), neighbours)
        release = Release("r1", state=State.PROMOTED, epoch=3)
        await runtime.bus.write(
            "harbor", lambda unit: save_release(unit.session, "harbor", release)
        )
        before, *_ = await house.ask()
    async with open_runtime("inference", mesh) as runtime:
        house = await serve(runtime, InferenceSettings(), ScriptedModel(), neighbours)
        after, *_ = await house.ask()
        request = RecordFeedbackRequest(answer_id=before.started.answer_id, thumb_up=True)
        await call(house.stub.RecordFeedback, request, token=house.token(), timeout=5)
    assert before.started.release_id == after.started.release_id == "r1"


async def test_tables_are_created_once_and_kept(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings]
) -> None:
    async with open_runtime("inference", mesh_settings(tmp_path)) as runtime:
        await create_tables(runtime.database, Base.metadata)
        await create_tables(runtime.database, Base.metadata)
        assert (await load_releases(runtime.database, "harbor")).in_force().release_id == "base"
