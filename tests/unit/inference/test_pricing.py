"""Answers cost whole micro-units, rounded up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.domain.pricing import Price

TOKENS = st.integers(0, 10_000)


def test_price_is_per_thousand_tokens_in_each_direction() -> None:
    assert Price(100, 400).cost_micros(1_000, 0) == 100
    assert Price(100, 400).cost_micros(0, 1_000) == 400
    assert Price(100, 400).cost_micros(300, 10) == 34


def test_no_tokens_cost_nothing_and_any_priced_token_costs_something() -> None:
    assert Price(100, 400).cost_micros(0, 0) == 0
    assert Price(1, 1).cost_micros(1, 0) == 1


@settings(deadline=None)
@given(TOKENS, TOKENS, TOKENS)
def test_more_tokens_never_cost_less(tokens: int, more: int, output: int) -> None:
    price = Price(150, 600)
    assert price.cost_micros(tokens + more, output) >= price.cost_micros(tokens, output)
