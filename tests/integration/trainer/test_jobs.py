"""Training as a job, as a cluster does it: the service plans, `services.train` trains."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.trainer.adapters import finetune, run_folder
from tests import postgres
from tests.conftest import migrate_all
from tests.integration.trainer.conftest import Stage, eventually, on_stage
from tests.integration.trainer.test_interruptions import a_checkpoint_is_there
from tests.integration.trainer.test_learning import teach
from tests.ports import free_port_base
from tidemill.api.trainer import v1 as api
from tidemill.artifacts import manifest_of
from tidemill.settings import MeshSettings

JOB_SECONDS = 120


@pytest.fixture
async def stage(
    eager: None,
    postgres_server: str,
    tmp_path: Path,
    broker: Any,
    mesh_settings: Callable[..., MeshSettings],
    run_service: Any,
    mint: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stage]:
    """Its trainer plans and does not train."""
    url = postgres.empty_database(postgres_server)
    await migrate_all(tmp_path, url)
    monkeypatch.setenv("TIDEMILL_TRAINER_TRAINS", "false")
    settings = mesh_settings(tmp_path, kafka=broker.bootstrap, db=url)
    async with on_stage(settings, run_service, mint) as one:
        yield one


def start_job(settings: MeshSettings, **changes: str) -> subprocess.Popen[str]:
    """On ports of its own, as in a container of its own. changes: of the trainer's settings."""
    mine = {f"TIDEMILL_TRAINER_{name.upper()}": value for name, value in changes.items()} | {
        "TIDEMILL_HOME": str(settings.home),
        "TIDEMILL_DB": settings.db,
        "TIDEMILL_KAFKA": settings.kafka,
        "TIDEMILL_PORT_BASE": str(free_port_base()),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.train"],
        env=dict(os.environ) | mine,
        stderr=subprocess.PIPE,
        text=True,
    )


async def ended(job: subprocess.Popen[str]) -> int:
    _, said = await asyncio.to_thread(job.communicate, None, JOB_SECONDS)
    assert "Traceback" not in said, said
    return job.returncode


def trained_alone(folder: Path) -> str:
    """Hash of the adapter that one process makes of a plan."""
    finetune.finetune(folder)
    return sha256(manifest_of(folder / run_folder.ADAPTER)).hexdigest()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
async def test_a_job_that_was_killed_is_gone_on_with_by_two_machines_together(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEMILL_TRAINER_EPOCHS", "20")
    async with stage.trainer():
        await teach(stage, range(8))

        async def planned() -> bool:
            return [run.state for run in await stage.runs()] == [api.RUN_STATE_RUNNING]

        await eventually(planned)
        (plan,) = (stage.settings.home / "trainer" / "runs").iterdir()
        shutil.copytree(plan, tmp_path / "alone")
        first = start_job(stage.settings)
        await eventually(lambda: a_checkpoint_is_there(stage.settings.home))
        first.send_signal(signal.SIGTERM)
        assert await ended(first) == 0
        assert await planned()
        assert stage.adapters == []
        meeting = {"machines": "2", "meeting": f"127.0.0.1:{free_port_base()}"}
        jobs = [start_job(stage.settings, **meeting, machine=number) for number in "10"]
        event = await stage.trained()
        assert [await ended(job) for job in jobs] == [0, 0]
        (run,) = await stage.runs()
    assert event.artifact_hash == trained_alone(tmp_path / "alone")
    assert (event.adapter, run.state) == ("harbor-v1", api.RUN_STATE_SUCCEEDED)
    assert run.steps_done == run.steps_planned > 0


async def test_a_job_that_finds_nothing_ends_at_once(stage: Stage) -> None:
    assert await ended(start_job(stage.settings)) == 0


async def test_a_job_on_a_file_is_refused(tmp_path: Path, mesh_settings: Any) -> None:
    job = start_job(mesh_settings(tmp_path, kafka="127.0.0.1:1", db=""))
    _, said = await asyncio.to_thread(job.communicate, None, JOB_SECONDS)
    assert job.returncode == 2
    assert said.splitlines()[-1].startswith("STORE_IS_A_FILE")
