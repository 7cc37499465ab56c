"""Share watches in rows."""

from dataclasses import dataclass

from services.monitor.adapters.tables import AnswerRow, ThumbRow, WatchRow
from services.monitor.domain.permits import Permits
from services.monitor.domain.shares import (
    UNCOUNTED,
    Normal,
    ShareFinding,
    ShareWatch,
    observe,
    take_back,
)
from services.monitor.settings import ShareRules
from tidemill.bus import Unit


@dataclass(frozen=True)
class Observed:
    """The period that counts the answer, the time at which its window began, and a finding."""

    period: int
    window_start: float
    finding: ShareFinding | None


async def observe_share(
    unit: Unit,
    release_id: str,
    metric: str,
    hit: bool,
    normal: Normal,
    rules: ShareRules,
    now: float,
    changed_in: int = UNCOUNTED,
) -> Observed:
    """Counts one answer into the watch of that metric.

    changed_in: the period that counted the opposite for this answer, which is taken back.
    """
    key = (unit.tenant_id, release_id, metric)
    row = await unit.session.get(WatchRow, key, with_for_update=True)
    known = watch_of(row) if row else ShareWatch(Permits.full(rules, now))
    before = take_back(known, not hit, changed_in)
    after, finding = observe(before, hit, normal, rules, now)
    if row is None:
        row = WatchRow(tenant_id=unit.tenant_id, release_id=release_id, metric=metric)
        unit.session.add(row)
    started = row.window_started_at if known.window_n else now
    _keep(row, after, started)
    await unit.session.flush()
    return Observed(before.period(normal), started, finding)


def watch_of(row: WatchRow) -> ShareWatch:
    return ShareWatch(
        permits=Permits(row.permits_left, row.permits_at),
        reference_n=row.reference_n,
        reference_k=row.reference_k,
        window_n=row.window_n,
        window_k=row.window_k,
        alarmed=row.alarmed,
        windows=row.windows,
    )


def _keep(row: WatchRow, watch: ShareWatch, started: float) -> None:
    row.reference_n, row.reference_k = watch.reference_n, watch.reference_k
    row.window_n, row.window_k = watch.window_n, watch.window_k
    row.window_started_at, row.alarmed, row.windows = started, watch.alarmed, watch.windows
    row.permits_left, row.permits_at = watch.permits.left, watch.permits.refilled_at


async def keep_thumb(unit: Unit, answer_id: str, up: bool, recorded_at: float) -> bool:
    """The latest thumb on an answer stands, in whatever order they come; of two at one time down
    does. False when this one changes nothing."""
    row = await thumb_row(unit, answer_id)
    if row is None:
        row = ThumbRow(tenant_id=unit.tenant_id, answer_id=answer_id, counted_in=UNCOUNTED)
        row.up, row.counted_at = up, recorded_at
        unit.session.add(row)
        return True
    if (recorded_at, not up) <= (row.counted_at, not row.up):
        return False
    changed = row.up is not up
    row.up, row.counted_at = up, recorded_at
    return changed


async def thumb_row(unit: Unit, answer_id: str) -> ThumbRow | None:
    return await unit.session.get(ThumbRow, (unit.tenant_id, answer_id))


async def thumb_on(unit: Unit, answer_id: str) -> bool | None:
    """True up, False down, None without one."""
    row = await thumb_row(unit, answer_id)
    return row.up if row else None


async def counted_answer(unit: Unit, answer_id: str) -> AnswerRow | None:
    return await unit.session.get(AnswerRow, (unit.tenant_id, answer_id))
