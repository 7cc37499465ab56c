"""Percentiles from counts in buckets of equal ratio, which sums and never forgets its error."""

import math
from collections.abc import Mapping

GROWTH = 1.04
SMALLEST_SECONDS = 0.001


def bucket_of(seconds: float) -> int:
    """Index of the bucket; 0 holds everything up to a millisecond."""
    if seconds <= SMALLEST_SECONDS:
        return 0
    return math.ceil(math.log(seconds / SMALLEST_SECONDS) / math.log(GROWTH))


def percentile(counts: Mapping[int, int], share: float) -> float:
    """Seconds below which the share of answers lies, within 2 percent; 0.0 of nothing."""
    total = sum(counts.values())
    if not total:
        return 0.0
    wanted, seen, bucket = share * total, 0, 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            break
    return float(SMALLEST_SECONDS * GROWTH ** (bucket - 0.5))
