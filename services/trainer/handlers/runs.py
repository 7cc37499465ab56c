"""The life of a training run: planned from feedback, tried until it ends, announced."""

import asyncio
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
from opentelemetry.trace import Link, Tracer
from sqlalchemy.orm import Session

from services.trainer.adapters import run_folder, runs_store
from services.trainer.adapters import signals_store as signals
from services.trainer.adapters.run_folder import Failure, Plan, Progress, Result
from services.trainer.adapters.store import RunRow, RunState, lineage_rows
from services.trainer.domain import dataset
from services.trainer.domain.dataset import Limits, Snapshot
from services.trainer.domain.naming import adapter_name, folder_name
from services.trainer.domain.recipe import Recipe
from services.trainer.domain.trigger import Trigger
from services.trainer.handlers.datasets import Harvest, harvest
from services.trainer.handlers.telling import run_changed, trained
from tidemill import topics
from tidemill.artifacts import Artifact, ArtifactStore, store_faults
from tidemill.bus import Bus, UnitOfWork
from tidemill.clock import Clock, Stopwatch
from tidemill.db import Database
from tidemill.db.rivals import is_rival, rival_won
from tidemill.faults import Fault
from tidemill.ids import new_id
from tidemill.modelserver.weights import Weights
from tidemill.telemetry.tracing import context_of, link_of, traceparent_of

log = structlog.get_logger()

MAX_LINKS = 32


@dataclass(frozen=True)
class Rules:
    """When to train, on how much, how, and how often a run may fail."""

    trigger: Trigger
    limits: Limits
    recipe: Recipe
    attempts: int
    retry: timedelta
    tracking: str


@dataclass(frozen=True)
class Place:
    """Where runs live and what they use. folder: parent of the run folders."""

    folder: Path
    database: Database
    bus: Bus
    artifacts: ArtifactStore
    clock: Clock
    tracer: Tracer
    watch: Stopwatch

    def run(self, run_id: str) -> Path:
        return self.folder / run_id


async def due_tenant(
    place: Place, rules: Rules, too_few: dict[str, int]
) -> tuple[str, Harvest] | None:
    """A tenant whose feedback fires the trigger, and what it would train on.

    too_few: news counts that were found not to be enough once lessons of the same prompt or user
    fell together; kept by the caller, so that nothing is harvested twice for the same answer.
    """
    news = partial(signals.news, at_least=rules.trigger.min_feedback)
    for tenant, count in await place.database.read(news):
        if too_few.get(tenant) == count:
            continue
        found = await place.database.read(partial(harvest, tenant_id=tenant, limits=rules.limits))
        now = now_of(place, tenant, found)
        if rules.trigger.fires(found.fresh, found.first, found.last, now):
            return tenant, found
        if found.fresh < rules.trigger.min_feedback:
            too_few[tenant] = count
    return None


async def may_come_due(place: Place, rules: Rules, too_few: dict[str, int]) -> bool:
    """Whether a tenant has feedback enough, which only has to pause or to grow old."""
    news = await place.database.read(partial(signals.news, at_least=rules.trigger.min_feedback))
    return any(too_few.get(tenant) != count for tenant, count in news)


def now_of(place: Place, tenant: str, found: Harvest) -> datetime:
    """Now, as counted from the tenant's last feedback: a step of the wall clock is no quiet."""
    if found.last is None:
        return place.clock.now()
    return found.last + place.watch.since(tenant, found.last)


def may_retry(place: Place, rules: Rules, row: RunRow) -> bool:
    """True also when the time is further off than any pause: the clock has stepped back."""
    left = row.retry_time - place.clock.now()
    return not timedelta() < left <= rules.retry * 2**rules.attempts


async def plan_run(
    place: Place, rules: Rules, tenant: str, found: Harvest, base: Weights
) -> RunRow:
    """Freeze the data set, name the adapter, and take the feedback; training can then start.

    The folder comes before the rows, and before their transaction, which then waits for no disk: a
    crash between them leaves a folder that nobody names, which sweeping.py removes.
    """
    taken, run_id = dataset.snapshot(found.lessons), new_id("run")
    with place.tracer.start_as_current_span(
        "plan training run",
        context=context_of(found.traceparents[0] if found.traceparents else ""),
        links=links_of(found.traceparents),
    ) as span:
        number = await place.database.read(partial(runs_store.next_number, tenant_id=tenant))
        row = run_row(run_id, tenant, number, taken, base, place.clock.now())
        row.traceparent = traceparent_of(span)
        plan, upto = plan_of(row, rules, base), found.last or row.create_time
        await asyncio.to_thread(write_folder, place.run(run_id), plan, taken)
        try:
            await place.bus.write(tenant, partial(add_run, row=row, taken=taken, upto=upto))
        except Fault as fault:
            if is_rival(fault):  # the folder holds users' words, and nobody will name it
                await asyncio.to_thread(shutil.rmtree, place.run(run_id), ignore_errors=True)
            raise
    log.info("training_planned", run_id=run_id, adapter=row.adapter, examples=len(taken.lessons))
    return row


def write_folder(folder: Path, plan: Plan, taken: Snapshot) -> None:
    with store_faults():
        run_folder.write_plan(folder, plan, "".join(dataset.line(each) for each in taken.lessons))


def add_run(unit: UnitOfWork, row: RunRow, taken: Snapshot, upto: datetime) -> None:
    """The rows, and the event that lets them be built again. Another run that was planned
    meanwhile has the number: the fault of a lost race."""
    if runs_store.next_number(unit.session, row.tenant_id) != row.number:
        raise rival_won()
    unit.session.add(row)
    unit.session.flush()
    pairs = [(lesson.feedback_id, lesson.answer_id) for lesson in taken.lessons]
    unit.session.add_all(lineage_rows(row.tenant_id, row.run_id, pairs))
    ids = signals.take_news(unit.session, row.tenant_id, row.run_id, upto)
    unit.publish(topics.RUNS_CHANGED, row.run_id, run_changed(row, pairs, ids))


def run_row(
    run_id: str, tenant: str, number: int, taken: Snapshot, base: Weights, now: datetime
) -> RunRow:
    return RunRow(
        run_id=run_id,
        tenant_id=tenant,
        number=number,
        adapter=adapter_name(tenant, number),
        state=RunState.RUNNING.value,
        dataset_id=taken.dataset_id,
        dataset_hash=taken.content_hash,
        supervised_examples=len(taken.lessons),
        preference_pairs=taken.preference_pairs,
        base_version=base.version,
        retry_time=now,
        create_time=now,
    )


def plan_of(row: RunRow, rules: Rules, base: Weights) -> Plan:
    return Plan(
        run_id=row.run_id,
        adapter=row.adapter,
        base_folder=str(base.folder.resolve()),
        base_name=base.name,
        base_version=base.version,
        dataset_hash=row.dataset_hash,
        tracking=rules.tracking,
        recipe=rules.recipe,
    )


async def note_progress(place: Place, run_id: str, progress: Progress) -> None:
    def note(session: Session) -> None:
        row = session.get_one(RunRow, run_id)
        row.steps_done, row.steps_planned = progress.steps_done, progress.steps_planned
        row.loss = progress.loss

    await place.database.write(note)


async def fail(place: Place, rules: Rules, run_id: str, failure: Failure) -> None:
    """Plan another try, or give the run up; its feedback stays for later runs."""
    tenant, now = (await find_run(place, run_id)).tenant_id, place.clock.now()

    def note(unit: UnitOfWork) -> RunRow:
        row = unit.session.get_one(RunRow, run_id)
        row.failures += 1
        row.reason = failure.reason
        if failure.final or row.failures >= rules.attempts:
            row.state, row.end_time = RunState.FAILED.value, now
            unit.publish(topics.RUNS_CHANGED, row.run_id, run_changed(row))
        else:
            row.retry_time = now + rules.retry * 2 ** (row.failures - 1)
        return row

    row = await place.bus.write(tenant, note)
    log.warning(
        "training_failed",
        run_id=run_id,
        reason=failure.reason,
        failures=row.failures,
        state=row.state,
    )
    if row.state == RunState.FAILED:
        await asyncio.to_thread(shutil.rmtree, place.run(run_id), True)


async def find_run(place: Place, run_id: str) -> RunRow:
    return await place.database.read(lambda session: session.get_one(RunRow, run_id))


async def succeed(place: Place, run_id: str, result: Result) -> None:
    """Store the adapter and its data set, and announce it. Done twice, it has one effect."""
    row = await find_run(place, run_id)
    folder, owner = place.run(run_id), folder_name(row.tenant_id)
    await place.artifacts.put_folder(folder / run_folder.DATA, f"{owner}/datasets/{row.dataset_id}")
    adapter = folder / run_folder.ADAPTER
    artifact = await place.artifacts.put_folder(adapter, f"{owner}/adapters/{row.adapter}")
    await announce(place, run_id, result, artifact)
    log.info("adapter_trained", run_id=run_id, adapter=row.adapter, artifact_hash=artifact.hash)
    await asyncio.to_thread(shutil.rmtree, folder, True)


async def announce(place: Place, run_id: str, result: Result, artifact: Artifact) -> None:
    """The run's last row and its event, in one transaction and in the trace of its feedback."""
    row = await find_run(place, run_id)
    with place.tracer.start_as_current_span(
        "training run",
        context=context_of(row.traceparent),
        start_time=int(row.create_time.timestamp() * 1e9),
        attributes={"tidemill.adapter": row.adapter, "tidemill.run_id": run_id},
    ):
        now = place.clock.now()
        work = partial(end_run, run_id=run_id, result=result, artifact=artifact, now=now)
        await place.bus.write(row.tenant_id, work)


def end_run(
    unit: UnitOfWork, run_id: str, result: Result, artifact: Artifact, now: datetime
) -> None:
    row = unit.session.get_one(RunRow, run_id)
    if row.state != RunState.RUNNING:
        return
    row.state, row.reason, row.end_time = RunState.SUCCEEDED.value, "", now
    row.loss = result.metrics["train/loss_last"]
    row.steps_done = row.steps_planned = len(result.history)
    unit.publish(topics.ADAPTERS_TRAINED, row.adapter, trained(row, result, artifact))
    unit.publish(topics.RUNS_CHANGED, row.run_id, run_changed(row))


def links_of(traceparents: tuple[str, ...]) -> list[Link]:
    """Links from a run to the feedback behind it, so that a trace leads either way."""
    contexts = (link_of(traceparent) for traceparent in traceparents[:MAX_LINKS])
    return [Link(context) for context in contexts if context]
