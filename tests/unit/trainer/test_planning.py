"""A run's folder is written before its transaction, and goes when nobody names it."""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from services.trainer.adapters import run_folder, runs_store
from services.trainer.adapters.store import Base, RunState
from services.trainer.app import place_of, rules_of
from services.trainer.domain.dataset import snapshot
from services.trainer.domain.lessons import Lesson
from services.trainer.handlers import runs
from services.trainer.handlers.datasets import Harvest
from services.trainer.handlers.runs import Place, Rules
from services.trainer.handlers.sweeping import MIN_AGE, sweep_folders
from services.trainer.settings import TrainerSettings
from tests.tables import create_tables
from tidemill.faults import Fault
from tidemill.modelserver.weights import Weights
from tidemill.runtime import open_runtime
from tidemill.settings import MeshSettings

BASE = Weights("tiny", "v1", "", Path("/nowhere"))
RULES: list[Rules] = []


@pytest.fixture
async def place(tmp_path: Path, mesh_settings: Callable[..., MeshSettings]) -> AsyncIterator[Place]:
    async with open_runtime("trainer", mesh_settings(tmp_path)) as runtime:
        await create_tables(runtime.database, Base.metadata)
        RULES[:] = [rules_of(TrainerSettings(), runtime)]
        yield place_of(runtime)


@pytest.fixture
def found(lesson: Callable[..., Lesson], place: Place) -> Harvest:
    now = place.clock.now()
    return Harvest(tuple(lesson(number) for number in range(3)), 3, now, now, ())


async def planned(place: Place, found: Harvest) -> str:
    return (await runs.plan_run(place, RULES[0], "acme", found, BASE)).run_id


def age(folder: Path, by: timedelta) -> None:
    time = folder.stat().st_mtime - by.total_seconds()
    os.utime(folder, (time, time))


async def test_others_can_write_while_the_folder_is_written(
    place: Place, found: Harvest, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, rows = [], str(place.database.engine.url.database)

    def write_plan(folder: Path, plan: run_folder.Plan, dataset: str) -> None:
        with sqlite3.connect(rows, timeout=0, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        real(folder, plan, dataset)
        written.append(folder)

    real = run_folder.write_plan
    monkeypatch.setattr(run_folder, "write_plan", write_plan)
    run_id = await planned(place, found)
    assert written == [place.run(run_id)]
    examples = (place.run(run_id) / run_folder.DATA / run_folder.EXAMPLES).read_text()
    assert len(examples.splitlines()) == len(snapshot(found.lessons).lessons)


async def test_a_number_that_another_took_meanwhile_leaves_no_folder(
    place: Place, found: Harvest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(place, found)
    real, asked = runs_store.next_number, []

    def late(session: object, tenant_id: str) -> int:
        asked.append(real(session, tenant_id))  # type: ignore[arg-type]
        return asked[-1] - (len(asked) == 1)

    monkeypatch.setattr(runs_store, "next_number", late)
    with pytest.raises(Fault) as lost:
        await planned(place, found)
    assert lost.value.retryable
    assert len(list(place.folder.iterdir())) == 1


async def test_folders_without_a_run_that_goes_on_are_swept_once_they_are_old(
    place: Place, found: Harvest
) -> None:
    goes_on, ended = await planned(place, found), await planned(place, found)
    async with place.database.transaction() as session:
        row = await session.get_one(runs.RunRow, ended)
        row.state = RunState.SUCCEEDED.value
    orphan, young = place.run("run_orphan"), place.run("run_young")
    for folder in (orphan, young):
        (folder / run_folder.DATA).mkdir(parents=True)
    for name in (goes_on, ended, orphan.name):
        age(place.run(name), 2 * MIN_AGE)
    assert await sweep_folders(place) == 2
    assert {folder.name for folder in place.folder.iterdir()} == {goes_on, young.name}
