"""Budgets of a calendar day (UTC): one alert a budget and day."""

from datetime import UTC, datetime, timedelta
from functools import partial

from services.monitor.adapters import alerts, counts
from services.monitor.handlers.parts import Parts
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason

BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
MAX_MICROS = 2**62


def check_budget(unit: UnitOfWork, day: str, now: float) -> list[str]:
    """Tells that the day's spending passed the budget; again only when the budget was raised."""
    spent, budget = counts.read_spend(unit.session, unit.tenant_id, day)
    if not budget or spent <= budget:
        return []
    alert = alerts.Alert(
        kind=events.ALERT_KIND_COST,
        reason=BUDGET_EXCEEDED,
        measured=float(spent),
        limit=float(budget),
        unit="cost_micros",
        window_start=day_start(day),
        window_end=day_start(day) + timedelta(days=1).total_seconds(),
        occasion=f"{day}/{budget}",
    )
    return [BUDGET_EXCEEDED] if alerts.raise_alert(unit, alert, now) else []


def day_start(day: str) -> float:
    """Seconds since the epoch of "2026-11-22" 00:00 UTC."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


@outlasting_rivals
async def set_budget(parts: Parts, tenant_id: str, budget_micros: int) -> float:
    """Returns when the day began that it counts from. A budget already passed is told at once."""
    if not 0 <= budget_micros <= MAX_MICROS:
        raise Fault(Reason.INVALID_ARGUMENT, field="budget_micros")
    day = parts.clock.now().date().isoformat()
    work = partial(_set_budget, budget_micros=budget_micros, day=day, now=parts.now())
    for reason in await parts.bus.write(tenant_id, work):
        parts.figures.alert(tenant_id, reason)
    return day_start(day)


def _set_budget(unit: UnitOfWork, budget_micros: int, day: str, now: float) -> list[str]:
    counts.set_budget(unit, budget_micros)
    event = events.BudgetSet(
        tenant_id=unit.tenant_id, budget_micros=budget_micros, set_time=alerts.timestamp(now)
    )
    unit.publish(topics.BUDGETS_SET, "budget", event)
    return check_budget(unit, day, now)
