"""How the trainer reads its runs back when its rows are built again; it trains nothing."""

from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from services.trainer.adapters import signals_store as signals
from services.trainer.adapters.store import (
    AnswerRow,
    FeedbackRow,
    LineageRow,
    RunRow,
    RunState,
    lineage_rows,
)
from services.trainer.domain.dataset import Limits, snapshot
from services.trainer.handlers.datasets import harvest
from services.trainer.handlers.feedback import FeedbackMeter, give_up_waiting
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.rebuild.digests import table_hash
from tidemill.timestamps import utc_time

PROGRESS = ("reason", "steps_done", "steps_planned", "loss", "failures", "retry_time")
"""What a run tells at its end; the run folder has it until then."""


def restore_run(message: events.RunChanged, record: Record, unit: UnitOfWork) -> None:
    """The run as it was told; its folder, if it is still there, lets it go on."""
    row = unit.session.get(RunRow, message.run_id)
    if row is None:
        row = run_row(message, record)
        unit.session.add(row)
        unit.session.flush()
        pairs = [(lesson.feedback_id, lesson.answer_id) for lesson in message.examples]
        unit.session.add_all(lineage_rows(row.tenant_id, row.run_id, pairs))
        taken = list(message.taken_feedback_ids)
        signals.mark_taken(unit.session, row.tenant_id, row.run_id, taken)
    if message.state == events.RUN_STATE_RUNNING:
        return
    succeeded = message.state == events.RUN_STATE_SUCCEEDED
    row.state = (RunState.SUCCEEDED if succeeded else RunState.FAILED).value
    row.reason, row.failures, row.loss = message.reason, message.failures, message.loss
    row.steps_done, row.steps_planned = message.steps, message.planned_steps
    row.end_time = utc_time(message, "end_time")


def run_row(message: events.RunChanged, record: Record) -> RunRow:
    return RunRow(
        run_id=message.run_id,
        tenant_id=message.tenant_id,
        number=message.number,
        adapter=message.adapter,
        state=RunState.RUNNING.value,
        dataset_id=message.dataset.dataset_id,
        dataset_hash=message.dataset.content_hash,
        supervised_examples=message.dataset.supervised_examples,
        preference_pairs=message.dataset.preference_pairs,
        base_version=message.base_model,
        retry_time=utc_time(message, "create_time"),
        create_time=utc_time(message, "create_time"),
        traceparent=record.headers.get(TRACEPARENT, ""),
    )


async def settle(database: Database, clock: Clock, wait: timedelta, meter: FeedbackMeter) -> None:
    """What waited too long is given up, as it was before."""
    await give_up_waiting(database, clock, wait, meter)


async def digests(database: Database, limits: Limits) -> dict[str, str]:
    """The data set that each tenant's next run would learn, signals, runs and lineage."""
    return await database.read(partial(_digests, limits=limits))


def _digests(session: Session, limits: Limits) -> dict[str, str]:
    found = {
        "answers": table_hash(session, AnswerRow),
        "feedback": table_hash(session, FeedbackRow, ("received_time", "traceparent")),
        "lineage": table_hash(session, LineageRow),
        "runs": table_hash(session, RunRow, (*PROGRESS, "traceparent")),
    }
    for tenant in signals.tenants(session):
        found[f"dataset/{tenant}"] = dataset_hash(session, tenant, limits)
    return found


def dataset_hash(session: Session, tenant_id: str, limits: Limits) -> str:
    return snapshot(harvest(session, tenant_id, limits).lessons).content_hash
