"""What callers ask of the monitor: alerts and usage."""

from dataclasses import dataclass

from services.monitor.adapters import alerts, counts
from services.monitor.adapters.tables import UsageRow
from services.monitor.domain.latency import percentile
from services.monitor.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.faults import Fault, Reason

DEFAULT_PAGE = 20
MAX_PAGE = 100
NEWEST = 2**62


@dataclass(frozen=True)
class ReleaseSummary:
    """Sums of one release with its latency in seconds."""

    sums: UsageRow
    latency_p50: float
    latency_p95: float


@dataclass(frozen=True)
class Usage:
    """Usage of a tenant; spent is the current day's, budget each day's, in millionths."""

    releases: list[ReleaseSummary]
    spent: int
    budget: int


async def list_alerts(
    parts: Parts, tenant_id: str, page_size: int, page_token: str
) -> tuple[list[events.AlertRaised], str]:
    """A page, newest first, and the token of the next one, empty on the last."""
    if page_size < 0:
        raise Fault(Reason.INVALID_ARGUMENT, field="page_size")
    if page_token and not page_token.isdecimal():
        raise Fault(Reason.INVALID_ARGUMENT, field="page_token")
    size = min(page_size or DEFAULT_PAGE, MAX_PAGE)
    before = int(page_token[:18]) if page_token else NEWEST
    rows = await parts.database.read(
        lambda session: alerts.list_alerts(session, tenant_id, before, size + 1)
    )
    page = [events.AlertRaised.FromString(row.content) for row in rows[:size]]
    return page, str(rows[size - 1].place) if len(rows) > size else ""


async def get_usage(parts: Parts, tenant_id: str) -> Usage:
    """Sums by release, and the spending of the current day (UTC)."""
    day = parts.clock.now().date().isoformat()
    (sums, buckets), (spent, budget) = await parts.database.read(
        lambda session: (
            counts.read_usage(session, tenant_id),
            counts.read_spend(session, tenant_id, day),
        )
    )
    releases = [
        ReleaseSummary(
            row,
            percentile(buckets.get(row.release_id, {}), 0.50),
            percentile(buckets.get(row.release_id, {}), 0.95),
        )
        for row in sums
    ]
    return Usage(releases, spent, budget)
