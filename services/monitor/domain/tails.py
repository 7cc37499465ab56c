"""Exact upper tails of two counting distributions, without a statistics library in the service."""

import math


def binomial_tail(k: int, n: int, share: float) -> float:
    """P(X >= k) of n draws that hit with the chance share, 0 < share < 1."""
    terms = (
        math.exp(_log_choose(n, hits) + hits * math.log(share) + (n - hits) * math.log1p(-share))
        for hits in range(k, n + 1)
    )
    return min(1.0, math.fsum(terms))


def hypergeometric_tail(k: int, total: int, hits: int, drawn: int) -> float:
    """P(X >= k) hits among drawn of total, of which so many are hits: Fisher's exact test."""
    least = max(k, drawn - (total - hits), 0)
    whole = _log_choose(total, drawn)
    terms = (
        math.exp(_log_choose(hits, seen) + _log_choose(total - hits, drawn - seen) - whole)
        for seen in range(least, min(hits, drawn) + 1)
    )
    return min(1.0, math.fsum(terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
