"""Train what the trainer has planned, then end: python -m services.train.

For clusters, where training has processors or GPUs of its own for as long as it takes: the service
runs with TIDEMILL_TRAINER_TRAINS=false, and both see the same folder of runs and the same database.
A job that is killed or told to stop leaves a checkpoint, from which the next one goes on.

Exit code 0: nothing is left to train, or another job trains. 1: the database or the object store is
away, so a later try may succeed. 2: the start makes no sense.
"""

import asyncio
import signal
import sys
from contextlib import suppress

import structlog

from services.trainer.app import TRAINING_TURN, schedule_of
from services.trainer.migrations import MIGRATIONS
from services.trainer.schedule import TrainingSchedule
from services.trainer.settings import TrainerSettings
from tidemill.db.turn import Turn
from tidemill.exits import exit_code
from tidemill.faults import StartRefused
from tidemill.runtime import open_runtime
from tidemill.settings import MeshSettings
from tidemill.telemetry.logging import configure_logging

log = structlog.get_logger()

TURN_SECONDS = 40.0
"""A killed job's turn is free after 30."""


async def work(settings: MeshSettings) -> None:
    """Until nothing is left to train, or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    trainer = TrainerSettings()
    async with open_runtime("trainer", settings) as runtime:
        if runtime.database.is_file:
            hint = "a file has one process, and the service trains; set TIDEMILL_DB to a server"
            raise StartRefused("STORE_IS_A_FILE", hint)
        await runtime.database.expect(MIGRATIONS)
        schedule, turn = schedule_of(trainer, runtime), runtime.database.turn(TRAINING_TURN)
        try:
            if trainer.machine == 0:
                await train_all(schedule, turn, stop, trainer.poll_seconds)
            else:
                await follow_all(schedule, stop, trainer.poll_seconds)
        finally:  # another job may begin once this one's process is gone
            await schedule.close()
            await turn.release()


async def train_all(
    schedule: TrainingSchedule, turn: Turn, stop: asyncio.Event, poll_seconds: float
) -> None:
    """As the one that leads."""
    waited = 0.0
    while not stop.is_set():
        if await turn.held():
            if not await schedule.train():
                log.info("nothing_to_train")
                return
        elif schedule.training is not None or waited > TURN_SECONDS:
            log.info("another_job_trains")
            return
        else:
            waited += poll_seconds
        await pause(stop, poll_seconds)


async def follow_all(schedule: TrainingSchedule, stop: asyncio.Event, poll_seconds: float) -> None:
    """As one of the other machines."""
    while not stop.is_set():
        if not await schedule.follow():
            log.info("nothing_to_train")
            return
        await pause(stop, poll_seconds)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def main() -> int:
    settings = MeshSettings()
    configure_logging("trainer-job", settings.log_level)
    return exit_code(work(settings))


if __name__ == "__main__":
    sys.exit(main())
