"""Question embeddings of the drift watch in rows."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.adapters.tables import AlertRow, DriftRow, QuestionRow
from services.monitor.domain.answers import vector_of
from services.monitor.domain.drift import Vectors
from services.monitor.domain.permits import Permits
from services.monitor.settings import DriftRules
from tidemill.api.events.v1 import ALERT_KIND_DRIFT, AlertRaised
from tidemill.bus import Unit
from tidemill.db import Database


@dataclass(frozen=True)
class DriftCase:
    """What one test looks at; times in seconds since the epoch."""

    tenant_id: str
    seen: int
    permits: Permits
    reference: Vectors
    window: Vectors
    window_start: float
    window_end: float


async def add_question(
    unit: Unit, embedding: bytes, asked_at: float, rules: DriftRules, now: float
) -> None:
    """Appends a question; one of another size than the reference starts the watch anew."""
    dimensions = vector_of(embedding).size
    if dimensions == 0:
        return
    row = await unit.session.get(DriftRow, unit.tenant_id, with_for_update=True)
    if row is not None and row.dimensions != dimensions:
        await unit.session.execute(
            delete(QuestionRow).where(QuestionRow.tenant_id == unit.tenant_id)
        )
        await unit.session.delete(row)
        await unit.session.flush()
        row = None
    if row is None:
        row = _new_row(unit.tenant_id, dimensions, Permits.full(rules, now))
        unit.session.add(row)
    row.seen += 1
    unit.session.add(
        QuestionRow(tenant_id=unit.tenant_id, place=row.seen, vector=embedding, asked_at=asked_at)
    )
    await unit.session.flush()


def _new_row(tenant_id: str, dimensions: int, permits: Permits) -> DriftRow:
    return DriftRow(
        tenant_id=tenant_id,
        dimensions=dimensions,
        seen=0,
        tested=0,
        alarmed=False,
        permits_left=permits.left,
        permits_at=permits.refilled_at,
    )


async def cases_due(database: Database, rules: DriftRules, now: float) -> list[DriftCase]:
    """Tenants with a full window, enough new questions since their last test, and a test left in
    their budget; only of these are the embeddings read."""
    async with database.session() as session:
        found = await session.scalars(
            select(DriftRow).where(
                DriftRow.seen >= rules.reference + rules.window,
                DriftRow.seen >= DriftRow.tested + rules.stride,
            )
        )
        return [
            await _case(session, row, rules)
            for row in found.all()
            if _permits(row).refilled(rules, now).available
        ]


def _permits(row: DriftRow) -> Permits:
    return Permits(row.permits_left, row.permits_at)


async def _case(session: AsyncSession, row: DriftRow, rules: DriftRules) -> DriftCase:
    reference = await _questions(session, row.tenant_id, 0, rules.reference)
    window = await _questions(session, row.tenant_id, row.seen - rules.window, row.seen)
    return DriftCase(
        tenant_id=row.tenant_id,
        seen=row.seen,
        permits=_permits(row),
        reference=_stacked(reference),
        window=_stacked(window),
        window_start=min(question.asked_at for question in window),
        window_end=max(question.asked_at for question in window),
    )


async def _questions(
    session: AsyncSession, tenant_id: str, after: int, up_to: int
) -> list[QuestionRow]:
    found = await session.scalars(
        select(QuestionRow)
        .where(
            QuestionRow.tenant_id == tenant_id,
            QuestionRow.place > after,
            QuestionRow.place <= up_to,
        )
        .order_by(QuestionRow.place)
    )
    return list(found)


def _stacked(rows: list[QuestionRow]) -> Vectors:
    return np.stack([vector_of(row.vector) for row in rows])


async def keep_test(
    unit: Unit, case: DriftCase, permits: Permits, drifted: bool, rules: DriftRules
) -> bool | None:
    """Writes the test down and drops questions that no test needs any more.

    Returns whether the tenant was in a drift episode before; None when another test was faster.
    """
    row = await unit.session.get(DriftRow, unit.tenant_id, with_for_update=True)
    if row is None or row.tested >= case.seen:
        return None
    before, row.alarmed, row.tested = row.alarmed, drifted, case.seen
    row.permits_left, row.permits_at = permits.left, permits.refilled_at
    await _forget_passed(unit.session, unit.tenant_id, case.seen, rules)
    return before


async def _forget_passed(
    session: AsyncSession, tenant_id: str, seen: int, rules: DriftRules
) -> None:
    """Questions behind the reference that have left the window."""
    await session.execute(
        delete(QuestionRow).where(
            QuestionRow.tenant_id == tenant_id,
            QuestionRow.place > rules.reference,
            QuestionRow.place <= seen - rules.window,
        )
    )


async def take_as_tested(session: AsyncSession, rules: DriftRules) -> None:
    """After a rebuild: all questions so far count as tested, and a drift that was told once is
    told again only after a window in between that is normal."""
    for row in (await session.scalars(select(DriftRow))).all():
        row.tested = row.seen
        told = select(AlertRow.content).where(AlertRow.tenant_id == row.tenant_id)
        found = [AlertRaised.FromString(each) for each in await session.scalars(told)]
        row.alarmed = any(alert.kind == ALERT_KIND_DRIFT for alert in found)
        if row.seen >= rules.reference + rules.window:
            await _forget_passed(session, row.tenant_id, row.seen, rules)
