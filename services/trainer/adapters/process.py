"""Starts the training process, watches its progress, and stops it."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path

from services.trainer.adapters import run_folder
from services.trainer.adapters.run_folder import Failure, Progress, Result
from tidemill.clock import Clock

STOP_SECONDS = 3.0
LOG_FILE = "training.log"


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
            self.process.kill()
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
            self.process.kill()
            await self.process.wait()


async def start(run_id: str, folder: Path, clock: Clock, niceness: int) -> Training:
    """Train the folder's plan in a process of its own, so that its memory is given back."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    # Wiped first: the progress of an earlier process is no sign of life of this one.
    (folder / run_folder.PROGRESS).unlink(missing_ok=True)
    module = "services.trainer.adapters.training"
    command = (sys.executable, "-m", module, str(folder), str(niceness))
    with (folder / LOG_FILE).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    now = clock.monotonic()
    return Training(run_id, folder, process, clock, now, now)
