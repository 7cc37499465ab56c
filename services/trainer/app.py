"""The trainer, wired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from services.trainer.adapters.process import Bounds, Launch
from services.trainer.consumer import subscribe
from services.trainer.domain.dataset import Limits
from services.trainer.domain.recipe import Recipe
from services.trainer.domain.trigger import Trigger
from services.trainer.handlers.feedback import FeedbackMeter, give_up_waiting
from services.trainer.handlers.runs import Place, Rules
from services.trainer.handlers.sweeping import sweep_folders
from services.trainer.migrations import MIGRATIONS
from services.trainer.schedule import TrainingSchedule
from services.trainer.servicer import TrainerServicer
from services.trainer.settings import TrainerSettings
from tidemill.api.trainer.v1.trainer_service_pb2_grpc import add_TrainerServiceServicer_to_server
from tidemill.artifacts import ArtifactStore
from tidemill.clock import Stopwatch
from tidemill.db.turn import Turn
from tidemill.runtime import Runtime
from tidemill.wake import longest

SWEEP_SECONDS = 60.0
HOUR_SECONDS = 3_600.0
TRAINING_TURN = "training"
"""Held by whoever trains, service or job: one run at a time."""


@asynccontextmanager
async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
    """Collects feedback, trains when there is enough of it, and stops a training on the way out."""
    settings, database = TrainerSettings(), runtime.database
    await database.expect(MIGRATIONS)
    rules, meter = rules_of(settings, runtime), FeedbackMeter(runtime.telemetry.meter)
    servicer = TrainerServicer(database, rules.limits, settings.min_feedback)
    add_TrainerServiceServicer_to_server(servicer, runtime.server.grpc)
    schedule = schedule_of(settings, runtime)
    subscribe(runtime.bus, meter, schedule.news)
    wait, turn = timedelta(hours=settings.wait_hours), database.turn("schedule")
    start_tasks(settings, runtime, schedule, turn)
    give_up = partial(give_up_waiting, database, runtime.clock, wait, meter)
    runtime.tasks.every("give_up_waiting", SWEEP_SECONDS, give_up, turn)
    runtime.tasks.every("sweep_folders", HOUR_SECONDS, partial(sweep_folders, schedule.place), turn)
    try:
        yield
    finally:
        await runtime.tasks.close()
        await schedule.close()


def start_tasks(
    settings: TrainerSettings, runtime: Runtime, schedule: TrainingSchedule, turn: Turn
) -> None:
    """Plans, and trains unless jobs do."""
    rest = settings.poll_seconds
    on = partial(runtime.tasks.on, rest=rest, at_most=longest(runtime.database, rest))
    on("plan", schedule.news, schedule.plan, turn=turn)
    if settings.trains:
        on("train", schedule.news, schedule.train, turn=runtime.database.turn(TRAINING_TURN))


def schedule_of(settings: TrainerSettings, runtime: Runtime) -> TrainingSchedule:
    return TrainingSchedule(
        place=place_of(runtime),
        rules=rules_of(settings, runtime),
        bounds=Bounds(settings.run_seconds, settings.stall_seconds),
        home=runtime.settings.home,
        niceness=settings.niceness,
        launch=Launch(settings.processes, settings.machines, settings.machine, settings.meeting),
    )


def place_of(runtime: Runtime) -> Place:
    return Place(
        folder=(runtime.settings.home / runtime.service / "runs").resolve(),
        database=runtime.database,
        bus=runtime.bus,
        artifacts=ArtifactStore(runtime.settings.artifacts_url),
        clock=runtime.clock,
        tracer=runtime.telemetry.tracer,
        watch=Stopwatch(runtime.clock),
    )


def rules_of(settings: TrainerSettings, runtime: Runtime) -> Rules:
    quiet = timedelta(seconds=settings.quiet_seconds)
    overdue = timedelta(seconds=settings.overdue_seconds)
    database = (runtime.settings.home / runtime.service / "mlflow.db").resolve()
    return Rules(
        trigger=Trigger(settings.min_feedback, quiet, overdue),
        limits=Limits(settings.max_examples, settings.max_user_share),
        recipe=Recipe(
            epochs=settings.epochs,
            preference_steps=settings.preference_steps,
            seed=settings.seed,
            threads=settings.threads,
        ),
        attempts=settings.attempts,
        retry=timedelta(seconds=settings.retry_seconds),
        tracking="" if settings.tracking == "off" else settings.tracking or f"sqlite:///{database}",
    )
