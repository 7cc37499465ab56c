"""What stands for a passage in vector space, and which queries are taken."""

import pytest

from services.embedder.domain.texts import invalid_queries, passage_text


@pytest.mark.parametrize(
    ("title", "headings", "expected"),
    [
        ("Leave", ["Annual", "Carry over"], "Leave > Annual > Carry over\ntext"),
        ("Leave", ["Leave", "Annual"], "Leave > Annual\ntext"),
        ("", [], "text"),
        ("", ["Annual"], "Annual\ntext"),
        ("Leave", [], "Leave\ntext"),
    ],
)
def test_a_passage_is_embedded_with_its_title_and_headings(
    title: str, headings: list[str], expected: str
) -> None:
    assert passage_text(title, headings, "text") == expected


@pytest.mark.parametrize(
    ("texts", "invalid"),
    [
        (["x"], False),
        (["x" * 4_000] * 64, False),
        ([], True),
        (["x"] * 65, True),
        (["x" * 4_001], True),
        (["x", "  "], True),
    ],
)
def test_queries_are_bounded(texts: list[str], invalid: bool) -> None:
    assert invalid_queries(texts) is invalid
