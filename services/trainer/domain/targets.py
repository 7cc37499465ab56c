"""The text a model is taught to write: a short answer and a marker, or the refusal.

This is the one place of the trainer that knows the completion format. The prompt is the string the
model server got: passages on one line each, numbered from 1, then the question.
"""

import re
from collections.abc import Collection, Iterable, Mapping

REFUSAL = "NOT_IN_CONTEXT"
MAX_TARGET_CHARACTERS = 400

_PASSAGE = re.compile(r"^\[(\d{1,3})\] (.*)$", re.MULTILINE)
_MARKER = re.compile(r"\s*\[(\d{1,3})\]")
_WORD = re.compile(r"\w+")


def passages(prompt: str) -> dict[int, str]:
    """Text of each passage in a prompt, by its marker. The first of a repeated marker counts."""
    found: dict[int, str] = {}
    for number, text in _PASSAGE.findall(prompt):
        found.setdefault(int(number), text)
    return found


def markers(text: str) -> tuple[int, ...]:
    """Markers in a text, each once, in order."""
    return tuple(dict.fromkeys(int(number) for number in _MARKER.findall(text)))


def without_markers(text: str) -> str:
    return " ".join(_MARKER.sub("", text).split())


def answer_with(text: str, marker: int) -> str:
    """The target completion: "38 minutes [2]"."""
    return f"{without_markers(text)} [{marker}]"


def is_refusal(completion: str) -> bool:
    return completion.strip() == REFUSAL


def best_marker(text: str, prompt: str, allowed: Collection[int]) -> int | None:
    """The passage to cite for a text, among the allowed markers; None when none is in the prompt.

    A passage that holds the text literally comes first, else the one that shares most of its
    words; a tie goes to the better-ranked passage. Sharing no word is no reason to refuse here:
    whether a correction is true is for the gate to find out.
    """
    shown = {mark: words for mark, words in passages(prompt).items() if mark in allowed}
    if not shown:
        return None
    return max(
        sorted(shown), key=lambda mark: (holds(shown[mark], text), shared(shown[mark], text))
    )


def supported(text: str, prompt: str, allowed: Collection[int]) -> bool:
    """True when an allowed passage holds the text literally."""
    return any(holds(shown, text) for mark, shown in passages(prompt).items() if mark in allowed)


def holds(passage: str, text: str) -> bool:
    return f" {_plain(text)} " in f" {_plain(passage)} "


def shared(passage: str, text: str) -> float:
    """Share of the text's words that the passage has, between 0 and 1."""
    words = _words(text)
    return len(words & _words(passage)) / len(words) if words else 0.0


def renumbered(completion: str, places: Mapping[int, int]) -> str | None:
    """A completion of one prompt with the markers of another; None when a cited passage is not
    in the other prompt. `places` maps old markers to new ones."""
    if any(mark not in places for mark in markers(completion)):
        return None
    return _MARKER.sub(lambda match: f" [{places[int(match[1])]}]", completion.strip())


def _plain(text: str) -> str:
    return " ".join(_ordered(text))


def _words(text: str) -> set[str]:
    return set(_ordered(text))


def _ordered(text: str) -> Iterable[str]:
    words: list[str] = _WORD.findall(without_markers(text).lower())
    return words
