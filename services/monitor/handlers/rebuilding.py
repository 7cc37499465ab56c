"""How the monitor counts again when its rows are built again; it tells nobody a second time."""

from functools import partial

from sqlalchemy.orm import Session

from services.monitor.adapters import alerts, counts, questions
from services.monitor.adapters.tables import (
    AlertRow,
    BudgetRow,
    LatencyRow,
    SpendRow,
    UsageRow,
)
from services.monitor.handlers import counting
from services.monitor.handlers.parts import Parts
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.bus.envelope import Record
from tidemill.bus.tables import OutboxRow
from tidemill.db import Database
from tidemill.rebuild.digests import table_hash


def restore_alert(message: events.AlertRaised, record: Record, unit: UnitOfWork) -> None:
    alerts.keep_alert(unit, message)


def restore_budget(message: events.BudgetSet, record: Record, unit: UnitOfWork) -> None:
    """The events of a tenant share a key, so the last one read is the last one set."""
    counts.set_budget(unit, message.budget_micros)


def wanted(session: Session, row: OutboxRow) -> bool:
    """An alert that the log does not hold was never told, and its hour has passed. If its bound
    is still broken, the next answer raises it. A consumer that stopped says so once."""
    if row.topic != topics.ALERTS_RAISED.name:
        return True
    message = events.AlertRaised.FromString(row.value or b"")
    if message.kind == events.ALERT_KIND_DELIVERY:
        return True
    alerts.forget_alert(session, message)
    return False


async def settle(parts: Parts) -> None:
    """No test of questions that were tested long ago; answers of long ago are forgotten."""
    await parts.database.write(partial(questions.take_as_tested, rules=parts.drift))
    await counting.forget_old(parts)


async def digests(database: Database) -> dict[str, str]:
    """Usage, spending, budgets and alerts."""
    return await database.read(_digests)


def _digests(session: Session) -> dict[str, str]:
    return {
        "alerts": table_hash(session, AlertRow, ("place",)),
        "budgets": table_hash(session, BudgetRow),
        "latencies": table_hash(session, LatencyRow),
        "spend": table_hash(session, SpendRow),
        "usage": table_hash(session, UsageRow),
    }
