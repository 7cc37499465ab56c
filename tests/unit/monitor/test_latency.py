"""Latency percentiles from buckets."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain.latency import bucket_of, percentile


@given(st.lists(st.floats(0.002, 3_600.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_a_percentile_is_within_two_percent(seconds: list[float], share: float) -> None:
    counts = Counter(bucket_of(value) for value in seconds)
    exact = float(np.percentile(seconds, share * 100, method="inverted_cdf"))
    assert percentile(counts, share) == pytest.approx(exact, rel=0.0201)


def test_nothing_has_no_latency() -> None:
    assert percentile({}, 0.95) == 0.0


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0005, 0.001])
def test_everything_up_to_a_millisecond_shares_a_bucket(seconds: float) -> None:
    assert bucket_of(seconds) == 0
