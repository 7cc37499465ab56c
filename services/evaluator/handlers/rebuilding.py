"""How the evaluator reads its ledger back into new rows; it judges nothing a second time."""

from google.protobuf.message import Message
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.evaluator.adapters import ledger, suites, traffic
from services.evaluator.adapters.tables import (
    EvaluationRow,
    LedgerRow,
    ReleaseRow,
    SuiteRow,
    WaitingAdapterRow,
)
from services.evaluator.domain.releases import State
from services.evaluator.domain.suites import Sample
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.db import Database
from tidemill.rebuild.digests import table_hash
from tidemill.timestamps import utc_time

IN_HAND = ("afresh", "runs", "created_at", "due_at", "traceparent")
"""How far an evaluation has come; it starts again at its first sample."""


def restore_suite(message: events.SuiteStored, record: Record, unit: UnitOfWork) -> None:
    samples = [
        Sample(each.sample_id, each.question, each.answer, tuple(each.document_ids))
        for each in message.samples
    ]
    suites.store_suite(unit, message.suite_id, samples, seconds(message, "stored_time"))


def restore_release(message: events.ReleaseChanged, record: Record, unit: UnitOfWork) -> None:
    """The state of the highest epoch; a proposal brings its evaluation along."""
    release, state = message.release, events.ReleaseState.Name(message.state)
    row = unit.session.get(ReleaseRow, (unit.tenant_id, release.release_id))
    if row is None:
        ledger.add_release(unit, release, record.headers.get(TRACEPARENT, ""))
        row = ledger.get_release(unit.session, unit.tenant_id, release.release_id)
        row.first_epoch = message.epoch
    if message.epoch <= row.epoch:
        return
    row.state, row.epoch = state.removeprefix("RELEASE_STATE_"), message.epoch
    row.reasons, row.evaluation_id = list(message.reasons), message.evaluation_id
    row.changed_at = seconds(message, "changed_time")
    ledger.keep_epoch(unit, message.epoch)
    if message.evaluation_id:
        restore_evaluation(unit, row)


def restore_evaluation(unit: UnitOfWork, release: ReleaseRow) -> None:
    """Due while its release waits for its gate, done afterwards."""
    row = unit.session.get(EvaluationRow, release.evaluation_id)
    if row is None:
        row = EvaluationRow(
            evaluation_id=release.evaluation_id,
            tenant_id=unit.tenant_id,
            candidate_id=release.release_id,
            baseline_id=release.parent_id,
            created_at=release.changed_at,
            due_at=release.changed_at,
            traceparent=release.traceparent,
        )
        unit.session.add(row)
    row.done = release.state != State.PROPOSED.value


def restore_verdict(message: events.EvaluationCompleted, record: Record, unit: UnitOfWork) -> None:
    """The verdict, and what the canary needs of it."""
    row = unit.session.get(EvaluationRow, message.evaluation_id)
    release_key = (unit.tenant_id, message.candidate_release_id)
    release = unit.session.get(ReleaseRow, release_key)
    if row is None or release is None:
        return
    row.done, row.suite_hash = True, message.suite_hash
    row.content = message.SerializeToString(deterministic=True)
    found = [each for each in message.metrics if each.metric == "refused"]
    release.refusal_gap = found[0].candidate - found[0].baseline if found else 0.0


async def settle(database: Database) -> None:
    """Live answers count for the canary that runs now, and for no earlier one."""
    await database.write(_forget_earlier)


def _forget_earlier(session: Session) -> None:
    for tenant_id in session.scalars(select(LedgerRow.tenant_id)).all():
        canary = ledger.canary_of(session, tenant_id)
        traffic.forget_earlier(session, tenant_id, canary)


def seconds(message: Message, field: str) -> float:
    return utc_time(message, field).timestamp()


async def digests(database: Database) -> dict[str, str]:
    """The release ledger, verdicts, suites and the queue of adapters."""
    return await database.read(_digests)


def _digests(session: Session) -> dict[str, str]:
    return {
        "evaluations": table_hash(session, EvaluationRow, IN_HAND),
        "ledger": table_hash(session, LedgerRow),
        "releases": table_hash(session, ReleaseRow, ("traceparent",)),
        "suites": table_hash(session, SuiteRow),
        "waiting": table_hash(session, WaitingAdapterRow, ("received_at", "traceparent")),
    }
