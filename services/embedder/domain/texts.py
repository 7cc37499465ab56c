"""The text that stands for a passage in vector space, and the rules for queries."""

from collections.abc import Sequence

MAX_QUERIES = 64
MAX_QUERY_CHARACTERS = 4_000


def passage_text(title: str, headings: Sequence[str], text: str) -> str:
    """ "Title > Heading > Heading", then the passage: a passage alone often names no subject."""
    path: list[str] = []
    for name in (title, *headings):
        if name and name not in path:
            path.append(name)
    return f"{' > '.join(path)}\n{text}" if path else text


def invalid_queries(texts: Sequence[str]) -> bool:
    """True when there are none or too many, or one is empty or too long."""
    if not 1 <= len(texts) <= MAX_QUERIES:
        return True
    return any(not text.strip() or len(text) > MAX_QUERY_CHARACTERS for text in texts)
