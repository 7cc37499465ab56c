"""Share watches in rows."""

from dataclasses import dataclass

from services.monitor.adapters.tables import AnswerRow, ThumbRow, WatchRow
from services.monitor.domain.permits import Permits
from services.monitor.domain.shares import Normal, ShareFinding, ShareWatch, observe
from services.monitor.settings import ShareRules
from tidemill.bus import Unit


@dataclass(frozen=True)
class Told:
    """A finding with the time at which its window began."""

    finding: ShareFinding
    window_start: float


async def observe_share(
    unit: Unit,
    release_id: str,
    metric: str,
    hit: bool,
    normal: Normal,
    rules: ShareRules,
    now: float,
) -> Told | None:
    """Counts one answer into the watch of that metric."""
    key = (unit.tenant_id, release_id, metric)
    row = await unit.session.get(WatchRow, key, with_for_update=True)
    before = watch_of(row) if row else ShareWatch(Permits.full(rules, now))
    after, finding = observe(before, hit, normal, rules, now)
    if row is None:
        row = WatchRow(tenant_id=unit.tenant_id, release_id=release_id, metric=metric)
        unit.session.add(row)
    started = row.window_started_at if before.window_n else now
    _keep(row, after, started)
    await unit.session.flush()
    return Told(finding, started) if finding else None


def watch_of(row: WatchRow) -> ShareWatch:
    return ShareWatch(
        permits=Permits(row.permits_left, row.permits_at),
        reference_n=row.reference_n,
        reference_k=row.reference_k,
        window_n=row.window_n,
        window_k=row.window_k,
        alarmed=row.alarmed,
    )


def _keep(row: WatchRow, watch: ShareWatch, started: float) -> None:
    row.reference_n, row.reference_k = watch.reference_n, watch.reference_k
    row.window_n, row.window_k = watch.window_n, watch.window_k
    row.window_started_at, row.alarmed = started, watch.alarmed
    row.permits_left, row.permits_at = watch.permits.left, watch.permits.refilled_at


async def keep_thumb(unit: Unit, answer_id: str, up: bool, now: float) -> bool:
    """False when the answer has a thumb already."""
    if await unit.session.get(ThumbRow, (unit.tenant_id, answer_id)) is not None:
        return False
    unit.session.add(ThumbRow(tenant_id=unit.tenant_id, answer_id=answer_id, up=up, counted_at=now))
    return True


async def thumb_on(unit: Unit, answer_id: str) -> bool | None:
    """True up, False down, None without one."""
    row = await unit.session.get(ThumbRow, (unit.tenant_id, answer_id))
    return row.up if row else None


async def counted_answer(unit: Unit, answer_id: str) -> AnswerRow | None:
    return await unit.session.get(AnswerRow, (unit.tenant_id, answer_id))
