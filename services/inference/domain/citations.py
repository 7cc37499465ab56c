"""Citation markers in the model's text: "[1]" or "[1, 2]"."""

import re
from collections.abc import Callable, Iterator

_MARKERS = re.compile(r"(?P<space>[ \t]*)\[(?P<numbers>\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_UNFINISHED = re.compile(r"[ \t]*\[[\d,; ]*$")


def cited(text: str, passages: int) -> tuple[int, ...]:
    """Markers between 1 and the number of passages, each once, in the order of the text."""
    return tuple(dict.fromkeys(number for number in _all(text) if 1 <= number <= passages))


def keep_valid(text: str, passages: int) -> str:
    """The text without markers that point nowhere and without one that was cut off at the end."""
    whole = _repeated(text, lambda match: _repaired(match, passages))
    return _UNFINISHED.sub("", whole)


def without_markers(text: str) -> str:
    """The text with every marker taken out."""
    return _repeated(text, lambda match: "")


def _repeated(text: str, repair: Callable[[re.Match[str]], str]) -> str:
    """Until nothing changes: what is left of "[9[7]]" without its "[7]" is a marker again."""
    while (repaired := _MARKERS.sub(repair, text)) != text:
        text = repaired
    return text


def _all(text: str) -> Iterator[int]:
    for match in _MARKERS.finditer(text):
        yield from _numbers(match)


def _numbers(match: re.Match[str]) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", match["numbers"])]


def _repaired(match: re.Match[str], passages: int) -> str:
    kept = [number for number in _numbers(match) if 1 <= number <= passages]
    return match["space"] + "".join(f"[{number}]" for number in kept) if kept else ""
