"""Markers of citations are read, repaired and removed."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.inference.domain.citations import cited, keep_valid, without_markers


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        ("27 days [1].", (1,)),
        ("27 days [1][3] and more [1].", (1, 3)),
        ("27 days [1, 2].", (1, 2)),
        ("27 days [3;1].", (3, 1)),
        ("27 days [4] [0] [99].", ()),
        ("see [note] and [1", ()),
        ("none", ()),
    ],
)
def test_markers_are_read_once_in_the_order_of_the_text(
    text: str, markers: tuple[int, ...]
) -> None:
    assert cited(text, 3) == markers


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("27 days [1].", "27 days [1]."),
        ("27 days [4].", "27 days."),
        ("27 days [1, 4].", "27 days [1]."),
        ("27 days [1, 2].", "27 days [1][2]."),
        ("27 days [1", "27 days"),
        ("27 days [1,", "27 days"),
        ("27 days [", "27 days"),
        ("a list [x] stays", "a list [x] stays"),
        ("two\n[9] lines", "two\n lines"),
    ],
)
def test_markers_that_point_nowhere_are_dropped(text: str, kept: str) -> None:
    assert keep_valid(text, 3) == kept


def test_text_without_markers_reads_on() -> None:
    assert without_markers("27 days [1], paid [2, 3].") == "27 days, paid."


@settings(deadline=None)
@example(parts=["[", "9", "[7]", "]"])
@given(st.lists(st.sampled_from(["[", "]", "1", "2", "9", ",", " ", "x", "[1]", "[7]"])))
def test_kept_markers_always_point_at_a_passage(parts: list[str]) -> None:
    kept = keep_valid("".join(parts), 3)
    assert cited(kept, 99) == cited(kept, 3)
