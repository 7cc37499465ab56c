"""Sums of usage and spending in rows."""

from collections import defaultdict

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.orm import Session

from services.monitor.adapters.tables import (
    AnswerRow,
    BudgetRow,
    ForgottenRow,
    LatencyRow,
    SpendRow,
    ThumbRow,
    UsageRow,
)
from services.monitor.domain.answers import AnswerFacts
from services.monitor.domain.latency import bucket_of
from tidemill.bus import UnitOfWork
from tidemill.db import rows
from tidemill.db.deferred import defer
from tidemill.db.rows import get_locked, get_or_add

# Both databases know this form of INSERT, and it spares two questions an event.
_KEEP_ANSWER = text(
    "INSERT INTO answers (tenant_id, answer_id, release_id, production, counted_at)"
    " VALUES (:tenant_id, :answer_id, :release_id, :production, :counted_at)"
    " ON CONFLICT (tenant_id, answer_id) DO NOTHING"
    " RETURNING EXISTS (SELECT 1 FROM thumbs"
    " WHERE thumbs.tenant_id = answers.tenant_id AND thumbs.answer_id = answers.answer_id)"
)
_COUNT_LATENCY = text(
    "INSERT INTO latencies (tenant_id, release_id, bucket, answers)"
    " VALUES (:tenant_id, :release_id, :bucket, 1)"
    " ON CONFLICT (tenant_id, release_id, bucket) DO UPDATE SET answers = latencies.answers + 1"
)


def count_answer(unit: UnitOfWork, facts: AnswerFacts, now: float) -> bool | None:
    """Adds the answer to the sums. Whether a thumb on it was written by an earlier transaction;
    None when the answer was counted before."""
    answer = {
        "tenant_id": facts.tenant_id,
        "answer_id": facts.answer_id,
        "release_id": facts.release_id,
        "production": facts.production,
        "counted_at": now,
    }
    kept = unit.session.connection().execute(_KEEP_ANSWER, answer).first()
    if kept is None:
        return None
    _add_usage(unit, facts)
    spend = get_or_add(unit.session, SpendRow, tenant_id=facts.tenant_id, day=facts.day)
    spend.cost_micros += facts.cost_micros
    return bool(kept[0])


def _add_usage(unit: UnitOfWork, facts: AnswerFacts) -> None:
    tenant_id, release_id = facts.tenant_id, facts.release_id
    usage = get_or_add(unit.session, UsageRow, tenant_id=tenant_id, release_id=release_id)
    usage.answers += 1
    usage.refusals += facts.refused
    usage.errors += facts.failed
    usage.input_tokens += facts.input_tokens
    usage.output_tokens += facts.output_tokens
    usage.cost_micros += facts.cost_micros
    if not facts.failed and not facts.ended_by_caller:
        bucket = bucket_of(facts.duration_seconds)
        key = {"tenant_id": tenant_id, "release_id": release_id, "bucket": bucket}
        defer(unit.session, _COUNT_LATENCY, key)


def read_usage(
    session: Session, tenant_id: str
) -> tuple[list[UsageRow], dict[str, dict[int, int]]]:
    """Sums by release, and bucket counts by release id."""
    usage = session.scalars(
        select(UsageRow).where(UsageRow.tenant_id == tenant_id).order_by(UsageRow.release_id)
    )
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for row in session.scalars(select(LatencyRow).where(LatencyRow.tenant_id == tenant_id)):
        counts[row.release_id][row.bucket] = row.answers
    return list(usage), counts


def read_spend(session: Session, tenant_id: str, day: str) -> tuple[int, int]:
    """Spent on that day, and the budget of each day, 0 without one."""
    spend = rows.find(session, SpendRow, (tenant_id, day))
    budget = rows.find(session, BudgetRow, (tenant_id,))
    return spend.cost_micros if spend else 0, budget.budget_micros if budget else 0


def set_budget(unit: UnitOfWork, budget_micros: int) -> None:
    key = (unit.tenant_id,)
    row = get_locked(unit.session, BudgetRow, key)
    if row is None:
        row = BudgetRow(tenant_id=unit.tenant_id, budget_micros=budget_micros)
        rows.add(unit.session, row, key)
    else:
        row.budget_micros = budget_micros


def forget_answers(unit: UnitOfWork, before: float, most: int) -> bool:
    """Some counted answers and thumbs of all tenants older than that; the sums stay. Whether there
    may be more."""
    return any([_forget(unit.session, table, before, most) for table in (AnswerRow, ThumbRow)])


def _forget(
    session: Session, table: type[AnswerRow] | type[ThumbRow], before: float, most: int
) -> bool:
    query = select(table.tenant_id, table.answer_id, table.counted_at)
    old = query.where(table.counted_at < before).order_by(table.counted_at).limit(most)
    found = session.execute(old).all()
    if found:
        key = tuple_(table.tenant_id, table.answer_id)
        session.execute(delete(table).where(key.in_([(row[0], row[1]) for row in found])))
        row = get_or_add(session, ForgottenRow, kind=table.__tablename__)
        row.until = max(row.until, found[-1].counted_at)
    return len(found) == most


def is_forgotten(session: Session, table: type[AnswerRow] | type[ThumbRow], at: float) -> bool:
    """Whether what happened then was counted and forgotten, if it is not there. at: seconds since
    the epoch."""
    row = rows.find(session, ForgottenRow, (table.__tablename__,))
    return row is not None and at <= row.until
