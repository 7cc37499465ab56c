"""Starts the training process, or torchrun with several; watches the progress; stops them."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.trainer.adapters import run_folder
from services.trainer.adapters.run_folder import Failure, Progress, Result
from tidemill.clock import Clock

STOP_SECONDS = 3.0
LOG_FILE = "training.log"
TRAINING = "services.trainer.adapters.training"


@dataclass(frozen=True)
class Launch:
    """Which processes train a run together: so many on each of so many machines, of which this is
    the one with that number. meeting: host:port of machine 0, where all find each other."""

    processes: int = 1
    machines: int = 1
    machine: int = 0
    meeting: str = ""

    @property
    def together(self) -> bool:
        """Whether there is more than one."""
        return self.processes * self.machines > 1

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Of the training process, or of torchrun, which starts and watches them."""
        if not self.together:
            return (sys.executable, "-m", TRAINING, *arguments)
        torchrun = (sys.executable, "-m", "torch.distributed.run")
        return (*torchrun, *self._place(), "-m", TRAINING, *arguments)

    def _place(self) -> tuple[str, ...]:
        each = f"--nproc-per-node={self.processes}"
        if self.machines == 1:
            return (each, "--standalone")
        host, _, port = self.meeting.rpartition(":")
        machines = (f"--nnodes={self.machines}", f"--node-rank={self.machine}")
        return (each, *machines, f"--master-addr={host}", f"--master-port={port}")

    def threads(self) -> int:
        """Of each process."""
        return max(1, len(os.sched_getaffinity(0)) // self.processes)


@dataclass(frozen=True)
class Bounds:
    """Seconds: of a whole try, and without a finished step (the model's load included)."""

    total: float
    stall: float


@dataclass
class Training:
    """A training process of one run folder."""

    run_id: str
    folder: Path
    process: Process
    clock: Clock
    started: float
    progressed: float
    progress: Progress | None = None
    overrun: str = field(default="")

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    def look(self, bounds: Bounds) -> Progress | None:
        """The progress so far; ends a process that takes too long or stands still."""
        now, seen = self.clock.monotonic(), run_folder.read_progress(self.folder)
        if seen != self.progress:
            self.progress, self.progressed = seen, now
        if now - self.started > bounds.total:
            self.overrun = "RUN_TOO_LONG"
        elif now - self.progressed > bounds.stall:
            self.overrun = "RUN_STALLED"
        if self.overrun and not self.ended:
            self._kill()
        return self.progress

    def outcome(self) -> Result | Failure:
        """What an ended process left behind."""
        result = run_folder.read_result(self.folder)
        if result is not None:
            return result
        if self.overrun:
            return Failure(self.overrun, final=False)
        left = run_folder.read_failure(self.folder)
        return left or Failure("TRAINING_KILLED", final=False)

    async def stop(self) -> None:
        """End the process; its checkpoint stays for the next one."""
        if self.ended:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self._kill()
            await self.process.wait()

    def _kill(self) -> None:
        """With all that torchrun has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


async def start(run_id: str, folder: Path, clock: Clock, niceness: int, launch: Launch) -> Training:
    """Train the folder's plan in a process of its own, so that its memory is given back."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    if launch.together:
        environment["OMP_NUM_THREADS"] = str(launch.threads())
    # Wiped first: the progress of an earlier process is no sign of life of this one.
    if launch.machine == 0:
        (folder / run_folder.PROGRESS).unlink(missing_ok=True)
    command = launch.command(str(folder), str(niceness))
    with (folder / LOG_FILE).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    now = clock.monotonic()
    return Training(run_id, folder, process, clock, now, now)
