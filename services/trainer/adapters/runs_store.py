"""Reads and writes training runs and the lineage of their adapters."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.trainer.adapters.store import LineageRow, RunRow, RunState


async def next_number(session: AsyncSession, tenant_id: str) -> int:
    query = select(func.max(RunRow.number)).where(RunRow.tenant_id == tenant_id)
    return (await session.scalar(query) or 0) + 1


async def oldest_running(session: AsyncSession) -> RunRow | None:
    query = (
        select(RunRow)
        .where(RunRow.state == RunState.RUNNING)
        .order_by(RunRow.retry_time, RunRow.run_id)
        .limit(1)
    )
    return await session.scalar(query)


async def running_ids(session: AsyncSession) -> set[str]:
    """Runs of all tenants that have not ended."""
    query = select(RunRow.run_id).where(RunRow.state == RunState.RUNNING)
    return set((await session.scalars(query)).all())


async def is_training(session: AsyncSession, tenant_id: str) -> bool:
    query = select(RunRow.run_id).where(
        RunRow.tenant_id == tenant_id, RunRow.state == RunState.RUNNING
    )
    return await session.scalar(query.limit(1)) is not None


async def page(
    session: AsyncSession, tenant_id: str, before: int | None, size: int
) -> Sequence[RunRow]:
    """Runs with a number under `before`, newest first."""
    query = select(RunRow).where(RunRow.tenant_id == tenant_id)
    if before is not None:
        query = query.where(RunRow.number < before)
    return (await session.scalars(query.order_by(RunRow.number.desc()).limit(size))).all()


async def run_of_adapter(session: AsyncSession, tenant_id: str, adapter: str) -> RunRow | None:
    query = select(RunRow).where(RunRow.tenant_id == tenant_id, RunRow.adapter == adapter)
    return await session.scalar(query)


async def lineage(session: AsyncSession, run_id: str) -> Sequence[LineageRow]:
    query = select(LineageRow).where(LineageRow.run_id == run_id)
    return (await session.scalars(query.order_by(LineageRow.feedback_id))).all()
