"""Shares of one release (refusals, errors, thumbs down, slow answers) against what is normal."""

from dataclasses import dataclass, replace

from services.monitor.domain.permits import Permits
from services.monitor.domain.tails import binomial_tail, hypergeometric_tail
from services.monitor.settings import ShareRules

UNCOUNTED, REFERENCE = -1, 0
"""Periods of a watch; its windows follow from 1 on."""


@dataclass(frozen=True)
class Normal:
    """Either a fixed normal share, or the release's own first answers."""

    share: float = 0.0
    reference: int = 0
    window: int = 50


@dataclass(frozen=True)
class ShareWatch:
    """Counts of the reference and of the window since the last test."""

    permits: Permits
    reference_n: int = 0
    reference_k: int = 0
    window_n: int = 0
    window_k: int = 0
    alarmed: bool = False
    windows: int = 0
    """Windows that were tested."""

    def period(self, normal: Normal) -> int:
        """Where the next answer counts."""
        return REFERENCE if self.reference_n < normal.reference else self.windows + 1


@dataclass(frozen=True)
class ShareFinding:
    """A share that rose; limit is the normal share plus the least rise."""

    measured: float
    limit: float
    p_value: float


def observe(
    watch: ShareWatch, hit: bool, normal: Normal, rules: ShareRules, now: float
) -> tuple[ShareWatch, ShareFinding | None]:
    """Counts one answer; a full window is tested once a permit is there.

    The finding comes once an episode: the next one needs a window in between that is normal.
    """
    if watch.reference_n < normal.reference:
        return _learned(watch, hit), None
    watch = replace(watch, window_n=watch.window_n + 1, window_k=watch.window_k + hit)
    permits = watch.permits.refilled(rules, now)
    watch = replace(watch, permits=permits)
    if watch.window_n < normal.window or not permits.available:
        return watch, None
    finding = _finding(watch, normal, rules)
    rose = finding.p_value < rules.alpha and finding.measured >= finding.limit
    news = finding if rose and not watch.alarmed else None
    watch = replace(watch, window_n=0, window_k=0, windows=watch.windows + 1)
    return replace(watch, permits=permits.spent(), alarmed=rose), news


def take_back(watch: ShareWatch, hit: bool, period: int) -> ShareWatch:
    """Without an answer that the period counted; one whose window was tested stays counted."""
    if period == REFERENCE:
        reference_k = watch.reference_k - hit
        return replace(watch, reference_n=watch.reference_n - 1, reference_k=reference_k)
    if period == watch.windows + 1:
        return replace(watch, window_n=watch.window_n - 1, window_k=watch.window_k - hit)
    return watch


def _learned(watch: ShareWatch, hit: bool) -> ShareWatch:
    return replace(watch, reference_n=watch.reference_n + 1, reference_k=watch.reference_k + hit)


def _finding(watch: ShareWatch, normal: Normal, rules: ShareRules) -> ShareFinding:
    measured = watch.window_k / watch.window_n
    share = watch.reference_k / watch.reference_n if normal.reference else normal.share
    return ShareFinding(measured, share + rules.min_rise, _p_value(watch, normal))


def _p_value(watch: ShareWatch, normal: Normal) -> float:
    """Exact chance of so many hits: Fisher's against a reference, binomial against a share."""
    if not normal.reference:
        return binomial_tail(watch.window_k, watch.window_n, normal.share)
    total = watch.reference_n + watch.window_n
    hits = watch.reference_k + watch.window_k
    return hypergeometric_tail(watch.window_k, total, hits, watch.window_n)
