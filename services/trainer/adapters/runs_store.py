"""Reads and writes training runs and the lineage of their adapters."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.trainer.adapters.store import LineageRow, RunRow, RunState


def next_number(session: Session, tenant_id: str) -> int:
    query = select(func.max(RunRow.number)).where(RunRow.tenant_id == tenant_id)
    return (session.scalar(query) or 0) + 1


def oldest_running(session: Session) -> RunRow | None:
    query = (
        select(RunRow)
        .where(RunRow.state == RunState.RUNNING)
        .order_by(RunRow.retry_time, RunRow.run_id)
        .limit(1)
    )
    return session.scalar(query)


def running_ids(session: Session) -> set[str]:
    """Runs of all tenants that have not ended."""
    query = select(RunRow.run_id).where(RunRow.state == RunState.RUNNING)
    return set(session.scalars(query).all())


def is_training(session: Session, tenant_id: str) -> bool:
    query = select(RunRow.run_id).where(
        RunRow.tenant_id == tenant_id, RunRow.state == RunState.RUNNING
    )
    return session.scalar(query.limit(1)) is not None


def page(session: Session, tenant_id: str, before: int | None, size: int) -> Sequence[RunRow]:
    """Runs with a number under `before`, newest first."""
    query = select(RunRow).where(RunRow.tenant_id == tenant_id)
    if before is not None:
        query = query.where(RunRow.number < before)
    return (session.scalars(query.order_by(RunRow.number.desc()).limit(size))).all()


def run_of_adapter(session: Session, tenant_id: str, adapter: str) -> RunRow | None:
    query = select(RunRow).where(RunRow.tenant_id == tenant_id, RunRow.adapter == adapter)
    return session.scalar(query)


def lineage(session: Session, run_id: str) -> Sequence[LineageRow]:
    query = select(LineageRow).where(LineageRow.run_id == run_id)
    return (session.scalars(query.order_by(LineageRow.feedback_id))).all()
