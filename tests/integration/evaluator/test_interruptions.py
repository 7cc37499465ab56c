"""Kills, outages and a moving index: the run goes on, and nothing is decided twice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.evaluator.settings import RunRules
from tests.integration.evaluator.conftest import Stage
from tests.integration.evaluator.standins import BASE, SAMPLES, Mesh, Skill
from tidemill.faults import Fault, Reason


@asynccontextmanager
async def evaluator_process(stage: Stage) -> AsyncIterator[None]:
    """The evaluator as its own process; killed with -9 at the end."""
    environment = os.environ | {
        "TIDEMILL_HOME": str(stage.settings.home),
        "TIDEMILL_KAFKA": stage.settings.kafka,
        "TIDEMILL_PORT_BASE": str(stage.settings.port_base),
    }
    with (stage.settings.home / "evaluator.log").open("a") as log:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "services", "evaluator"],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, 20)


def seen(mesh: Mesh, release_id: str, state: str) -> Callable[[], bool]:
    return lambda: (release_id, state) in mesh.states()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_killed_at_every_step_it_promotes_once_and_asks_little_twice(stage: Stage) -> None:
    mesh = stage.mesh
    mesh.skills["rel_v1"] = Skill(9)
    async with stage.evaluator():
        await stage.create_suite()
    await stage.train("v1")
    async with evaluator_process(stage):
        await mesh.until(seen(mesh, "rel_v1", "PROPOSED"))
    for asks in (10, 45):
        async with evaluator_process(stage):
            await mesh.until(lambda asks=asks: sum(mesh.asked.values()) >= asks)  # type: ignore[misc]
    async with evaluator_process(stage):
        await mesh.until(seen(mesh, "rel_v1", "CANARY"))
    await stage.answer("rel_v1", 20)
    await stage.answer(BASE, 20)
    async with evaluator_process(stage):
        await mesh.until(seen(mesh, "rel_v1", "PROMOTED"))
    async with evaluator_process(stage):
        await stage.train("v1")
        await stage.train("worse")
        mesh.skills["rel_worse"] = Skill(0)
        await mesh.until(seen(mesh, "rel_worse", "REJECTED"))

    assert mesh.states() == [
        (BASE, "PROMOTED"),
        ("rel_v1", "PROPOSED"),
        ("rel_v1", "CANARY"),
        ("rel_v1", "PROMOTED"),
        (BASE, "SUPERSEDED"),
        ("rel_worse", "PROPOSED"),
        ("rel_worse", "REJECTED"),
    ]
    assert [change.epoch for change in mesh.changes] == list(range(1, 8))
    # Each of three kills in the run may lose the asks that were in hand.
    lost = 3 * RunRules().concurrency
    assert mesh.asked_of("rel_v1") + mesh.asked_of(BASE) <= 2 * len(SAMPLES) + lost


async def test_an_outage_of_the_serving_path_is_waited_out(stage: Stage) -> None:
    skill = Skill(9, fault=Fault(Reason.DEPENDENCY_UNAVAILABLE))
    stage.mesh.skills["rel_v1"] = skill
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("v1")
        await stage.mesh.until(lambda: stage.mesh.refused >= 10)
        skill.fault = None
        await stage.mesh.until_state("rel_v1", "CANARY")
    assert not any(sample.candidate_result.failed for sample in stage.mesh.verdicts[0].samples)


async def test_an_adapter_that_never_loads_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_EVALUATOR_RUN_MAX_RUNS", "2")
    stage.mesh.skills["rel_v1"] = Skill(9, fault=Fault(Reason.ADAPTER_UNAVAILABLE))
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("v1")
        change = await stage.mesh.until_state("rel_v1", "REJECTED")
    assert "TOO_FEW_SAMPLES" in change.reasons
    assert "REGRESSION_FAILURES" in change.reasons
    results = [sample.candidate_result for sample in stage.mesh.verdicts[0].samples]
    assert {result.error_reason for result in results} == {"ADAPTER_UNAVAILABLE"}


async def test_an_index_that_changes_under_the_run_restarts_it_side_by_side(stage: Stage) -> None:
    mesh = stage.mesh
    mesh.skills["rel_v1"] = Skill(9)
    # The index changes while the first answers come.
    mesh.manifest = lambda: "before" if sum(mesh.asked.values()) == 0 else "after"
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("v1")
        await mesh.until_state("rel_v1", "CANARY")
    assert (mesh.asked_of("rel_v1"), mesh.asked_of(BASE)) == (2 * len(SAMPLES), 2 * len(SAMPLES))
    assert mesh.verdicts[0].index_manifest_hash == "after"


async def test_a_candidate_waits_for_a_suite(stage: Stage) -> None:
    stage.mesh.skills["rel_v1"] = Skill(9)
    async with stage.evaluator():
        await stage.train("v1")
        await stage.mesh.until_state("rel_v1", "PROPOSED")
        await stage.create_suite()
        await stage.mesh.until_state("rel_v1", "CANARY")


async def test_without_a_suite_a_candidate_never_goes_live(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_EVALUATOR_RUN_SUITE_WAIT_SECONDS", "0")
    async with stage.evaluator():
        await stage.train("v1")
        change = await stage.mesh.until_state("rel_v1", "REJECTED")
    assert list(change.reasons) == ["SUITE_MISSING"]


async def test_a_canary_without_traffic_is_taken_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_EVALUATOR_CANARY_MAX_SECONDS", "0.5")
    stage.mesh.skills["rel_v1"] = Skill(9)
    async with stage.evaluator():
        await stage.create_suite()
        await stage.train("v1")
        change = await stage.mesh.until_state("rel_v1", "ROLLED_BACK")
    assert list(change.reasons) == ["INSUFFICIENT_EVIDENCE"]
