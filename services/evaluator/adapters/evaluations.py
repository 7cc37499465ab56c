"""Evaluations and their per-sample results in rows."""

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from services.evaluator.adapters.tables import (
    EvaluationRow,
    ReleaseRow,
    ResultRow,
    WaitingAdapterRow,
)
from services.evaluator.domain.releases import State
from services.evaluator.domain.results import SampleResult
from services.evaluator.domain.verdicts import result_message, result_of
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork


def tenants_waiting(session: Session) -> list[str]:
    """Tenants that have a trained adapter which is not a candidate yet."""
    found = session.scalars(select(WaitingAdapterRow.tenant_id).distinct())
    return list(found)


def under_way(session: Session) -> bool:
    """Whether an adapter waits, an evaluation is open or a canary runs, of any tenant."""
    waits = select(WaitingAdapterRow.tenant_id).exists()
    is_open = select(EvaluationRow).where(EvaluationRow.done.is_(False)).exists()
    runs = select(ReleaseRow).where(ReleaseRow.state == State.CANARY.value).exists()
    return bool(session.scalar(select(or_(waits, is_open, runs))))


def first_waiting(session: Session, tenant_id: str) -> WaitingAdapterRow | None:
    found: WaitingAdapterRow | None = session.scalar(
        select(WaitingAdapterRow)
        .where(WaitingAdapterRow.tenant_id == tenant_id)
        .order_by(WaitingAdapterRow.received_at, WaitingAdapterRow.adapter)
        .limit(1)
    )
    return found


def next_due(session: Session, now: float, longest: float) -> EvaluationRow | None:
    """The evaluation that has waited longest among those that may run now.

    longest: seconds that one is ever put off; what is due later than that was put off by a clock
    that has stepped back since.
    """
    may_run = (EvaluationRow.due_at <= now) | (EvaluationRow.due_at > now + longest)
    found: EvaluationRow | None = session.scalar(
        select(EvaluationRow)
        .where(EvaluationRow.done.is_(False), may_run)
        .order_by(EvaluationRow.due_at, EvaluationRow.evaluation_id)
        .limit(1)
    )
    return found


def count_looks(session: Session, suite_hash: str, baseline_id: str, tenant: str) -> int:
    """Verdicts so far of this suite against this baseline."""
    found = session.scalar(
        select(func.count())
        .select_from(EvaluationRow)
        .where(
            EvaluationRow.tenant_id == tenant,
            EvaluationRow.suite_hash == suite_hash,
            EvaluationRow.baseline_id == baseline_id,
            EvaluationRow.done.is_(True),
            EvaluationRow.content != b"",
        )
    )
    return int(found or 0)


def find_evaluation(
    session: Session, tenant_id: str, evaluation_id: str
) -> events.EvaluationCompleted | None:
    """The verdict; None while there is none."""
    row = session.get(EvaluationRow, evaluation_id)
    if row is None or row.tenant_id != tenant_id or not row.content:
        return None
    return events.EvaluationCompleted.FromString(row.content)


def read_results(session: Session, measurement_id: str) -> dict[str, SampleResult]:
    """Results by sample id."""
    found = session.scalars(select(ResultRow).where(ResultRow.measurement_id == measurement_id))
    return {row.sample_id: result_of(events.SampleResult.FromString(row.content)) for row in found}


def store_result(
    unit: UnitOfWork, measurement_id: str, sample_id: str, result: SampleResult
) -> None:
    """The first result of a sample stays."""
    if unit.session.get(ResultRow, (measurement_id, sample_id)) is None:
        content = result_message(result).SerializeToString(deterministic=True)
        unit.session.add(
            ResultRow(measurement_id=measurement_id, sample_id=sample_id, content=content)
        )


def forget_results(unit: UnitOfWork, measurement_ids: list[str]) -> None:
    unit.session.execute(delete(ResultRow).where(ResultRow.measurement_id.in_(measurement_ids)))
