"""Drives lanes side by side until their time is up, and puts their figures together."""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.faults.lane import Broken, Lane, Plan
from tests.faults.nursery import Nursery
from tests.faults.rounds import Sweep, Tally, failure_of, random_kills, verify
from tests.home import INSTALLED, new_home
from tests.integration.triton_process import Triton
from tests.ports import free_port_base

Say = Callable[[str], None]
END_SECONDS = 60.0
"""Kept for the last audit and the replay."""
ENOUGH_BYTES = 2 << 30


@dataclass(frozen=True)
class Job:
    """A lane to drive. name: of its folder."""

    name: str
    plan: Plan
    seed: int


@dataclass
class Outcome:
    """What became of one lane."""

    job: Job
    tally: Tally = field(default_factory=Tally)
    acked: int = 0
    retried: int = 0
    silent: int = 0
    audits: int = 0

    def figures(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "acked": self.acked,
            "produce_retries": self.retried,
            "produce_silences": self.silent,
            "audits": self.audits,
            "replays": tally.replays,
            "sigkills": tally.sigkills,
            "kill_points": {
                role: {
                    "possible": tally.possible.get(role, 0),
                    "tried": tally.tried[role],
                    "killed": len(tally.reached[role]),
                }
                for role in self.job.plan.roles
            },
        }


async def drive(
    jobs: list[Job], folder: Path, seconds: float, say: Say, triton: str = ""
) -> list[Outcome]:
    """All jobs side by side, each with its own broker and home under `folder`."""
    roles = tuple(sorted({role for job in jobs for role in job.plan.services}))
    deadline = time.monotonic() + seconds
    async with Nursery(roles) as nursery:
        return await asyncio.gather(
            *(drive_one(job, folder, nursery, deadline, say, triton) for job in jobs)
        )


async def drive_one(
    job: Job, folder: Path, nursery: Nursery, deadline: float, say: Say, triton: str
) -> Outcome:
    """Rounds of kills with an audit behind each; stops at the first that is not whole."""
    outcome, started = Outcome(job), time.monotonic()
    lane = Lane(job.plan, folder / job.name, nursery, random.Random(job.seed), triton)
    try:
        async with lane:
            async for done in rounds(lane, outcome.tally, deadline):
                outcome.acked, outcome.audits = len(lane.load.accepted), lane.audits
                outcome.retried, outcome.silent = lane.load.retried, lane.load.silent
                say(line(job, outcome, done, time.monotonic() - started))
    except (Broken, TimeoutError, OSError) as error:
        broken = error if isinstance(error, Broken) else Broken(repr(error))
        outcome.tally.failures.append(failure_of(lane, outcome.tally, broken))
    for failure in outcome.tally.failures:
        say(f"{job.name}: BROKEN: {failure['why']}; see {failure['folder']}")
    if not outcome.tally.failures:
        shutil.rmtree(lane.folder, ignore_errors=True)
    return outcome


async def rounds(lane: Lane, tally: Tally, deadline: float) -> Any:
    """Yields what was done after each audit that was whole."""
    end = deadline - min(END_SECONDS, (deadline - time.monotonic()) / 3)
    lane.feed(lane.plan.burst)
    sweep = Sweep(lane, tally)
    await sweep.prepare()
    if not await verify(lane, tally):
        return
    yield "counted the calls"
    for role in cycle(lane.plan.roles):
        if time.monotonic() > end:
            break
        await sweep.chain(role, end)
        await random_kills(lane, tally)
        if not await verify(lane, tally):
            return
        yield f"swept {role}"
    if await verify(lane, tally, last=True):
        yield "replayed every topic from offset 0"


def line(job: Job, outcome: Outcome, done: str, seconds: float) -> str:
    tally = outcome.tally
    return (
        f"{job.name} {seconds:4.0f} s: {outcome.acked} acked, {tally.kill_points} kill points, "
        f"{tally.sigkills} SIGKILLs, all whole; {done}"
    )


def figures_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """The file's own part; a kill point that two lanes of one kind reached counts once."""
    failures = [failure for outcome in outcomes for failure in outcome.tally.failures]
    reached = {
        (outcome.job.plan.name, point)
        for outcome in outcomes
        for points in outcome.tally.reached.values()
        for point in points
    }
    return {
        "acked": sum(outcome.acked for outcome in outcomes),
        "lost": sum(failure["lost"] for failure in failures),
        "doubled": sum(failure["doubled"] for failure in failures),
        "kill_points": len(reached),
        "sigkills": sum(outcome.tally.sigkills for outcome in outcomes),
        "lanes": {outcome.job.name: outcome.figures() for outcome in outcomes},
        "failures": failures,
    }


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is room: kill -9 leaves the page cache alone, so a disk
    would only cost time. It stays when a lane's folder is left in it."""
    shared = Path("/dev/shm")
    fits = shared.is_dir() and shutil.disk_usage(shared).free > ENOUGH_BYTES
    folder = Path(tempfile.mkdtemp(prefix="tidemill-faults-", dir=shared if fits else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder / "triton", ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def model_server(folder: Path) -> Iterator[str]:
    """Address of a real Triton with the embedder; empty when the models are not set up."""
    if not (INSTALLED / "models").exists():
        yield ""
        return
    home = folder / "triton"
    home.mkdir()
    server = Triton(new_home(home), free_port_base())
    try:
        yield server.address
    finally:
        server.stop()
