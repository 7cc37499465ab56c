"""Watches the shares of one release: errors, refusals, slow answers, thumbs down."""

from services.monitor.adapters import alerts, watches
from services.monitor.adapters.tables import ThumbRow
from services.monitor.domain.answers import AnswerFacts
from services.monitor.domain.shares import UNCOUNTED, Normal, ShareFinding
from services.monitor.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork

ERROR_SHARE = "ERROR_SHARE"
REFUSAL_SHARE = "REFUSAL_SHARE"
SLOW_SHARE = "SLOW_SHARE"
THUMBS_DOWN_SHARE = "THUMBS_DOWN_SHARE"
THUMBS_PART = 0.4
"""Thumbs are rarer than answers, so their reference and window are smaller."""


def watch_answer(unit: UnitOfWork, parts: Parts, facts: AnswerFacts) -> list[str]:
    """Reasons of the alerts that this answer raised."""
    rules = parts.share
    slow = facts.duration_seconds > rules.slow_seconds
    own = Normal(reference=rules.reference, window=rules.window)
    errors = Normal(share=rules.normal_error_share, window=rules.window)
    quick = Normal(share=rules.normal_slow_share, window=rules.window)
    if facts.ended_by_caller:
        # It says nothing of errors, and of slowness only when the caller waited long enough.
        return _observe(unit, parts, facts.release_id, SLOW_SHARE, slow, quick) if slow else []
    told = _observe(unit, parts, facts.release_id, ERROR_SHARE, facts.failed, errors)
    if not facts.failed:
        told += _observe(unit, parts, facts.release_id, REFUSAL_SHARE, facts.refused, own)
        told += _observe(unit, parts, facts.release_id, SLOW_SHARE, slow, quick)
    return told


def watch_thumb(
    unit: UnitOfWork, parts: Parts, answer_id: str, release_id: str, *, up: bool
) -> list[str]:
    """Reasons of the alerts that this kept thumb raised; the one that it changes is taken back."""
    normal = Normal(
        reference=round(parts.share.reference * THUMBS_PART),
        window=round(parts.share.window * THUMBS_PART),
    )
    thumb = watches.thumb_row(unit, answer_id)
    return _observe(unit, parts, release_id, THUMBS_DOWN_SHARE, not up, normal, thumb)


def _observe(
    unit: UnitOfWork,
    parts: Parts,
    release_id: str,
    metric: str,
    hit: bool,
    normal: Normal,
    thumb: ThumbRow | None = None,
) -> list[str]:
    """thumb: the one that is counted; what it said before is taken back."""
    now, changed_in = parts.now(), thumb.counted_in if thumb else UNCOUNTED
    seen = watches.observe_share(
        unit, release_id, metric, hit, normal, parts.share, now, changed_in
    )
    if thumb is not None:
        thumb.counted_in = seen.period
    if seen.finding is None:
        return []
    alert = _alert(release_id, metric, seen.finding, seen.window_start, now)
    return [metric] if alerts.raise_alert(unit, alert, now) else []


def _alert(
    release_id: str, metric: str, finding: ShareFinding, start: float, end: float
) -> alerts.Alert:
    slow = metric == SLOW_SHARE
    return alerts.Alert(
        kind=events.ALERT_KIND_LATENCY if slow else events.ALERT_KIND_QUALITY,
        reason=metric,
        measured=finding.measured,
        limit=finding.limit,
        unit="share",
        window_start=start,
        window_end=end,
        occasion=f"{start:.6f}",
        release_id=release_id,
    )
