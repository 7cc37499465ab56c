"""Question embeddings of the drift watch in rows."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from services.monitor.adapters.tables import AlertRow, DriftRow, QuestionRow
from services.monitor.domain.answers import vector_of
from services.monitor.domain.drift import Vectors
from services.monitor.domain.permits import Permits
from services.monitor.settings import DriftRules
from tidemill.api.events.v1 import ALERT_KIND_DRIFT, AlertRaised
from tidemill.bus import UnitOfWork
from tidemill.db import rows
from tidemill.db.deferred import defer, execute_deferred
from tidemill.db.rows import get_locked

_KEEP_QUESTION = insert(QuestionRow.__table__)  # type: ignore[arg-type]


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


def add_question(
    unit: UnitOfWork, embedding: bytes, asked_at: float, rules: DriftRules, now: float
) -> None:
    """Appends a question; one of another size than the reference starts the watch anew."""
    dimensions = vector_of(embedding).size
    if dimensions == 0:
        return
    row = get_locked(unit.session, DriftRow, (unit.tenant_id,))
    if row is None:
        row = DriftRow(tenant_id=unit.tenant_id)
        rows.add(unit.session, row, (unit.tenant_id,))
        _begin(row, dimensions, Permits.full(rules, now))
    elif row.dimensions != dimensions:
        execute_deferred(unit.session)
        unit.session.execute(delete(QuestionRow).where(QuestionRow.tenant_id == unit.tenant_id))
        _begin(row, dimensions, Permits.full(rules, now))
    row.seen += 1
    question = {"place": row.seen, "vector": embedding, "asked_at": asked_at}
    defer(unit.session, _KEEP_QUESTION, {"tenant_id": unit.tenant_id, **question})


def _begin(row: DriftRow, dimensions: int, permits: Permits) -> None:
    row.dimensions, row.seen, row.tested, row.alarmed = dimensions, 0, 0, False
    row.permits_left, row.permits_at = permits.left, permits.refilled_at


def cases_due(session: Session, rules: DriftRules, now: float) -> list[DriftCase]:
    """Tenants with a full window, enough new questions since their last test, and a permit."""
    found = session.scalars(
        select(DriftRow).where(
            DriftRow.seen >= rules.reference + rules.window,
            DriftRow.seen >= DriftRow.tested + rules.stride,
        )
    )
    # Their questions are read only for those that may be tested.
    return [_case(session, row, rules) for row in found.all() if _may_test(row, rules, now)]


def _may_test(row: DriftRow, rules: DriftRules, now: float) -> bool:
    return Permits(row.permits_left, row.permits_at).refilled(rules, now).available


def _case(session: Session, row: DriftRow, rules: DriftRules) -> DriftCase:
    reference = _questions(session, row.tenant_id, 0, rules.reference)
    window = _questions(session, row.tenant_id, row.seen - rules.window, row.seen)
    return DriftCase(
        tenant_id=row.tenant_id,
        seen=row.seen,
        permits=Permits(row.permits_left, row.permits_at),
        reference=_stacked(reference),
        window=_stacked(window),
        window_start=min(question.asked_at for question in window),
        window_end=max(question.asked_at for question in window),
    )


def _questions(session: Session, tenant_id: str, after: int, up_to: int) -> list[QuestionRow]:
    found = session.scalars(
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


def keep_test(
    unit: UnitOfWork, case: DriftCase, permits: Permits, drifted: bool, rules: DriftRules
) -> bool | None:
    """Writes the test down and drops questions that no test needs any more.

    Returns whether the tenant was in a drift episode before; None when another test was faster.
    """
    row = get_locked(unit.session, DriftRow, (unit.tenant_id,))
    if row is None or row.tested >= case.seen:
        return None
    before, row.alarmed, row.tested = row.alarmed, drifted, case.seen
    row.permits_left, row.permits_at = permits.left, permits.refilled_at
    _forget_passed(unit.session, unit.tenant_id, case.seen, rules)
    return before


def _forget_passed(session: Session, tenant_id: str, seen: int, rules: DriftRules) -> None:
    """Questions behind the reference that have left the window."""
    session.execute(
        delete(QuestionRow).where(
            QuestionRow.tenant_id == tenant_id,
            QuestionRow.place > rules.reference,
            QuestionRow.place <= seen - rules.window,
        )
    )


def take_as_tested(session: Session, rules: DriftRules) -> None:
    """After a rebuild: all questions so far count as tested, and a drift that was told once is
    told again only after a window in between that is normal."""
    for row in (session.scalars(select(DriftRow))).all():
        row.tested = row.seen
        told = select(AlertRow.content).where(AlertRow.tenant_id == row.tenant_id)
        found = [AlertRaised.FromString(each) for each in session.scalars(told)]
        row.alarmed = any(alert.kind == ALERT_KIND_DRIFT for alert in found)
        if row.seen >= rules.reference + rules.window:
            _forget_passed(session, row.tenant_id, row.seen, rules)
