"""Sums of usage and spending in rows."""

from collections import defaultdict
from typing import Any, TypeVar

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.adapters.tables import (
    AnswerRow,
    Base,
    BudgetRow,
    LatencyRow,
    SpendRow,
    ThumbRow,
    UsageRow,
)
from services.monitor.domain.answers import AnswerFacts
from services.monitor.domain.latency import bucket_of
from tidemill.bus import Unit

Row = TypeVar("Row", bound=Base)


async def locked(session: AsyncSession, table: type[Row], **key: str | int) -> Row:
    """The row of that key, made if it is missing, kept from other writers until the commit."""
    identity = tuple(key.values())
    row = await session.get(table, identity, with_for_update=True)
    if row is None:
        row = table(**key)
        session.add(row)
        await session.flush()
    return row


async def count_answer(unit: Unit, facts: AnswerFacts, now: float) -> bool:
    """Adds the answer to the sums; False when it was counted before."""
    key = (facts.tenant_id, facts.answer_id)
    if await unit.session.get(AnswerRow, key) is not None:
        return False
    unit.session.add(
        AnswerRow(
            tenant_id=facts.tenant_id,
            answer_id=facts.answer_id,
            release_id=facts.release_id,
            production=facts.production,
            counted_at=now,
        )
    )
    await _add_usage(unit, facts)
    spend = await locked(unit.session, SpendRow, tenant_id=facts.tenant_id, day=facts.day)
    spend.cost_micros += facts.cost_micros
    return True


async def _add_usage(unit: Unit, facts: AnswerFacts) -> None:
    tenant_id, release_id = facts.tenant_id, facts.release_id
    usage = await locked(unit.session, UsageRow, tenant_id=tenant_id, release_id=release_id)
    usage.answers += 1
    usage.refusals += facts.refused
    usage.errors += facts.failed
    usage.input_tokens += facts.input_tokens
    usage.output_tokens += facts.output_tokens
    usage.cost_micros += facts.cost_micros
    if not facts.failed and not facts.ended_by_caller:
        bucket = bucket_of(facts.duration_seconds)
        latency = await locked(
            unit.session, LatencyRow, tenant_id=tenant_id, release_id=release_id, bucket=bucket
        )
        latency.answers += 1


async def read_usage(
    session: AsyncSession, tenant_id: str
) -> tuple[list[UsageRow], dict[str, dict[int, int]]]:
    """Sums by release, and bucket counts by release id."""
    usage = await session.scalars(
        select(UsageRow).where(UsageRow.tenant_id == tenant_id).order_by(UsageRow.release_id)
    )
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for row in await session.scalars(select(LatencyRow).where(LatencyRow.tenant_id == tenant_id)):
        counts[row.release_id][row.bucket] = row.answers
    return list(usage), counts


async def read_spend(session: AsyncSession, tenant_id: str, day: str) -> tuple[int, int]:
    """Spent on that day, and the budget of each day, 0 without one."""
    spend = await session.get(SpendRow, (tenant_id, day))
    budget = await session.get(BudgetRow, tenant_id)
    return spend.cost_micros if spend else 0, budget.budget_micros if budget else 0


async def set_budget(unit: Unit, budget_micros: int) -> None:
    row = await unit.session.get(BudgetRow, unit.tenant_id, with_for_update=True)
    if row is None:
        unit.session.add(BudgetRow(tenant_id=unit.tenant_id, budget_micros=budget_micros))
    else:
        row.budget_micros = budget_micros
    await unit.session.flush()


async def forget_answers(unit: Unit, before: float, most: int) -> bool:
    """Some counted answers and thumbs of all tenants older than that; the sums stay. Whether there
    may be more."""
    more = False
    for table in (AnswerRow, ThumbRow):
        key = tuple_(table.tenant_id, table.answer_id)
        old = select(table.tenant_id, table.answer_id).where(table.counted_at < before).limit(most)
        deleted: Any = await unit.session.execute(delete(table).where(key.in_(old)))
        more = more or deleted.rowcount == most
    return more
