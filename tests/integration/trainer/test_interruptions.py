"""Kills and failures: a run goes on from its checkpoint, or is given up with a reason."""

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.trainer.adapters import run_folder
from tests.integration.trainer.conftest import Stage, eventually
from tests.integration.trainer.test_learning import teach
from tidemill.api.trainer import v1 as api


def training_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if is_training(child)]


def is_training(process: psutil.Process) -> bool:
    try:
        return any("trainer.adapters.training" in part for part in process.cmdline())
    except psutil.Error:
        return False


async def a_process_trains() -> Any:
    return next(iter(training_processes()), None)


async def nobody_trains() -> bool:
    return not training_processes()


async def a_checkpoint_is_there(home: Path) -> bool:
    return any((home / "trainer" / "runs").glob(f"*/{run_folder.CHECKPOINT}"))


@pytest.fixture
def many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough that a kill comes in the middle."""
    monkeypatch.setenv("TIDEMILL_TRAINER_EPOCHS", "20")


async def whole_run(stage: Stage) -> str:
    """The hash of the adapter that an undisturbed tenant gets from the same lessons."""
    await teach(stage, range(8), "calm")
    return (await stage.trained(1)).artifact_hash


async def test_a_run_survives_the_death_of_its_process_and_of_the_trainer(
    many_steps: None, stage: Stage
) -> None:
    async with stage.trainer():
        undisturbed = await whole_run(stage)
        await teach(stage, range(8))
        await eventually(lambda: a_checkpoint_is_there(stage.settings.home))
        for process in training_processes():
            process.send_signal(signal.SIGKILL)

        async def noticed() -> bool:
            return any(run.reason == "TRAINING_KILLED" for run in await stage.runs())

        await eventually(noticed)
    assert await nobody_trains()
    async with stage.trainer():
        event = await stage.trained(2)
        (run,) = await stage.runs()
    assert event.artifact_hash == undisturbed
    assert (event.adapter, run.state) == ("harbor-v1", api.RUN_STATE_SUCCEEDED)


async def test_a_run_that_keeps_failing_is_given_up_with_its_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-model"
    shutil.copytree(tiny_model, broken, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setenv("TIDEMILL_LLM", str(broken))
    monkeypatch.setenv("TIDEMILL_TRAINER_ATTEMPTS", "2")
    async with stage.trainer():
        await teach(stage, range(8))

        async def given_up() -> bool:
            runs = await stage.runs()
            return bool(runs) and runs[0].state == api.RUN_STATE_FAILED

        await eventually(given_up)
        (run,) = await stage.runs()
        trigger = await stage.trigger()
    assert run.reason == "FILES_UNREADABLE"
    assert (trigger.pending_feedback, trigger.training) == (0, False)
    assert stage.adapters == []


async def test_an_orphaned_process_ends_by_itself(many_steps: None, stage: Stage) -> None:
    """As after kill -9 of the service: its parent is gone, and it must not train on."""
    async with stage.trainer():
        await teach(stage, range(8))
        await eventually(lambda: a_checkpoint_is_there(stage.settings.home))
    (folder,) = (stage.settings.home / "trainer" / "runs").iterdir()
    module = "services.trainer.adapters.training"
    script = f'"$0" -m {module} "$1" & echo $!; exec sleep 0.01'
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", script, sys.executable, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert shell.stdout
    orphan = int(await shell.stdout.readline())
    await shell.wait()

    async def ended() -> bool:
        return not psutil.pid_exists(orphan)

    await eventually(ended)
