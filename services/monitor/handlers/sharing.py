"""Watches the shares of one release: errors, refusals, slow answers, thumbs down."""

from services.monitor.adapters import alerts, watches
from services.monitor.domain.answers import AnswerFacts
from services.monitor.domain.shares import Normal
from services.monitor.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import Unit

ERROR_SHARE = "ERROR_SHARE"
REFUSAL_SHARE = "REFUSAL_SHARE"
SLOW_SHARE = "SLOW_SHARE"
THUMBS_DOWN_SHARE = "THUMBS_DOWN_SHARE"
THUMBS_PART = 0.4
"""Thumbs are rarer than answers, so their reference and window are smaller."""


async def watch_answer(unit: Unit, parts: Parts, facts: AnswerFacts) -> list[str]:
    """Reasons of the alerts that this answer raised."""
    rules = parts.share
    slow = facts.duration_seconds > rules.slow_seconds
    own = Normal(reference=rules.reference, window=rules.window)
    errors = Normal(share=rules.normal_error_share, window=rules.window)
    quick = Normal(share=rules.normal_slow_share, window=rules.window)
    if facts.ended_by_caller:
        # It says nothing of errors, and of slowness only when the caller waited long enough.
        return (
            await _observe(unit, parts, facts.release_id, SLOW_SHARE, slow, quick) if slow else []
        )
    told = await _observe(unit, parts, facts.release_id, ERROR_SHARE, facts.failed, errors)
    if not facts.failed:
        told += await _observe(unit, parts, facts.release_id, REFUSAL_SHARE, facts.refused, own)
        told += await _observe(unit, parts, facts.release_id, SLOW_SHARE, slow, quick)
    return told


async def watch_thumb(unit: Unit, parts: Parts, release_id: str, *, up: bool) -> list[str]:
    """Reasons of the alerts that this thumb raised."""
    normal = Normal(
        reference=round(parts.share.reference * THUMBS_PART),
        window=round(parts.share.window * THUMBS_PART),
    )
    return await _observe(unit, parts, release_id, THUMBS_DOWN_SHARE, not up, normal)


async def _observe(
    unit: Unit, parts: Parts, release_id: str, metric: str, hit: bool, normal: Normal
) -> list[str]:
    now = parts.now()
    told = await watches.observe_share(unit, release_id, metric, hit, normal, parts.share, now)
    if told is None:
        return []
    slow = metric == SLOW_SHARE
    alert = alerts.Alert(
        kind=events.ALERT_KIND_LATENCY if slow else events.ALERT_KIND_QUALITY,
        reason=metric,
        measured=told.finding.measured,
        limit=told.finding.limit,
        unit="share",
        window_start=told.window_start,
        window_end=now,
        occasion=f"{told.window_start:.6f}",
        release_id=release_id,
    )
    return [metric] if await alerts.raise_alert(unit, alert, now) else []
