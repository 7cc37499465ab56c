"""Upper tails against scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.monitor.domain.tails import binomial_tail, hypergeometric_tail


@given(st.data())
def test_the_binomial_tail_is_scipy_s(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 400))
    k = data.draw(st.integers(0, n))
    share = data.draw(st.floats(0.001, 0.999))
    expected = float(stats.binom.sf(k - 1, n, share))
    assert binomial_tail(k, n, share) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.data())
def test_the_hypergeometric_tail_is_scipy_s(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 400))
    hits, drawn = data.draw(st.integers(0, total)), data.draw(st.integers(0, total))
    k = data.draw(st.integers(0, drawn))
    expected = float(stats.hypergeom.sf(k - 1, total, hits, drawn))
    assert hypergeometric_tail(k, total, hits, drawn) == pytest.approx(
        expected, rel=1e-6, abs=1e-12
    )
