"""Share watches in rows."""

from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

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
from tidemill.bus import UnitOfWork
from tidemill.db import rows

_WATCHES = (
    select(WatchRow)
    .where(
        WatchRow.tenant_id == bindparam("tenant_id"), WatchRow.release_id == bindparam("release_id")
    )
    .with_for_update()
)


@dataclass(frozen=True)
class Observed:
    """The period that counts the answer, the time at which its window began, and a finding."""

    period: int
    window_start: float
    finding: ShareFinding | None


def observe_share(
    unit: UnitOfWork,
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
    row = _watch_row(unit.session, key)
    known = watch_of(row) if row else ShareWatch(Permits.full(rules, now))
    before = take_back(known, not hit, changed_in)
    after, finding = observe(before, hit, normal, rules, now)
    started = row.window_started_at if row and known.window_n else now
    if row is None:
        row = WatchRow(tenant_id=unit.tenant_id, release_id=release_id, metric=metric)
        rows.add(unit.session, row, key)
    _keep(row, after, started)
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


def _watch_row(session: Session, key: tuple[str, str, str]) -> WatchRow | None:
    """All watches of a release are read at once: an answer counts for three of them."""
    if rows.known(session, WatchRow, key) is None:
        tenant_id, release_id, _ = key
        found = session.scalars(_WATCHES, {"tenant_id": tenant_id, "release_id": release_id})
        for row in found:
            rows.remember(session, row, (tenant_id, release_id, row.metric))
    return rows.known(session, WatchRow, key)


def _keep(row: WatchRow, watch: ShareWatch, started: float) -> None:
    """Only what changed: to set it costs more than to look."""
    values = {
        "reference_n": watch.reference_n,
        "reference_k": watch.reference_k,
        "window_n": watch.window_n,
        "window_k": watch.window_k,
        "window_started_at": started,
        "alarmed": watch.alarmed,
        "windows": watch.windows,
        "permits_left": watch.permits.left,
        "permits_at": watch.permits.refilled_at,
    }
    for name, value in values.items():
        if getattr(row, name) != value:
            setattr(row, name, value)


def keep_thumb(unit: UnitOfWork, answer_id: str, up: bool, recorded_at: float) -> bool:
    """The latest thumb on an answer stands, in whatever order they come; of two at one time down
    does. False when this one changes nothing."""
    row = thumb_row(unit, answer_id)
    if row is None:
        row = ThumbRow(tenant_id=unit.tenant_id, answer_id=answer_id, counted_in=UNCOUNTED)
        row.up, row.counted_at = up, recorded_at
        rows.add(unit.session, row, (unit.tenant_id, answer_id))
        return True
    if (recorded_at, not up) <= (row.counted_at, not row.up):
        return False
    changed = row.up is not up
    row.up, row.counted_at = up, recorded_at
    return changed


def thumb_row(unit: UnitOfWork, answer_id: str) -> ThumbRow | None:
    return rows.find(unit.session, ThumbRow, (unit.tenant_id, answer_id))


def thumb_on(unit: UnitOfWork, answer_id: str, *, written: bool) -> bool | None:
    """True up, False down, None without one. written: whether an earlier transaction wrote one;
    this one's own are known anyway."""
    look = rows.find if written else rows.known
    row = look(unit.session, ThumbRow, (unit.tenant_id, answer_id))
    return row.up if row else None


def counted_answer(unit: UnitOfWork, answer_id: str) -> AnswerRow | None:
    return unit.session.get(AnswerRow, (unit.tenant_id, answer_id))
