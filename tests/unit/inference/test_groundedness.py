"""Figures and names that no source holds are found; what the sources hold passes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.domain.groundedness import Sources, ungrounded

SOURCES = Sources.of(
    [
        "Annual leave Every employee of Marrowick Tideworks receives 27 days of annual leave.",
        "An employee with ten years of service receives 3 extra days. The budget is EUR 1,350.",
        "Fault code T-417 means the pitch motor is blocked. The portal is called **Driftwood**.",
        "The backup starts at 01:40 and runs 28 minutes at 6.6 kilovolts on the fourth day.",
        "Does the Skarv 240 need a permit in 2031?",
    ]
)


@pytest.mark.parametrize(
    "sentence",
    [
        "27 days [1]",
        "The answer is 27 days.",
        "10 years",
        "Ten years of service [2]",
        "three extra days",
        "EUR 1350",
        "EUR 1,350 [9]",
        "1,350 EUR",
        "T-417",
        "The code T-417 means a blocked pitch motor.",
        "The portal called **Driftwood** [3]",
        "Driftwood",
        "01:40 AM",
        "1:40",
        "28-minute runs",
        "6.6 kilovolts",
        "the 4th day",
        "Marrowick's employees",
        "The Skarv 240 in 2031",
        "1. The answer is 27 days.\n2. Every employee receives it.",
        "Yes.",
        "No",
        "",
        "[1]",
        "**",
    ],
)
def test_supported_sentence_passes(sentence: str) -> None:
    assert not ungrounded(sentence, SOURCES)


@pytest.mark.parametrize(
    "sentence",
    [
        "28 days of leave, or 29 [1]",
        "The answer is 5.",
        "six years",
        "EUR 1,351",
        "EUR 13.50",
        "T-418",
        "The code is QM-417.",
        "417 days",
        "02:40",
        "6.7 kilovolts",
        "The portal is called Seaglass.",
        "Seaglass",
        "Employees of Marrowick Shipyards",
        "244 * 1000 = 244000",
        "Completely unrelated chatter",
    ],
)
def test_invented_figure_name_or_statement_is_found(sentence: str) -> None:
    assert ungrounded(sentence, SOURCES)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=10**6))
def test_every_figure_is_held_against_the_sources(figure: int) -> None:
    known = figure in {27, 10, 3, 1350, 28, 4, 240, 2031}
    assert ungrounded(f"It takes {figure} days", SOURCES) is not known


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    assert ungrounded(text, Sources.of([text])) in (False, True)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["The", "Skarv", "240", "T-417", "27", "1,350", "days", ",", "[1]"]))
)
def test_words_of_the_sources_in_any_order_pass(words: list[str]) -> None:
    assert not ungrounded(" ".join(words), SOURCES)
