"""Cuts sections into passages of whole sentences, of about the same length, without overlap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from services.ingest.domain.documents import Passage, Section
from services.ingest.domain.sentences import sentences

MAX_CHARACTERS = 800
"""Keeps a passage of long words (code, tables) within an embedder's window of 256 tokens."""


@dataclass(frozen=True)
class Unit:
    """What is never cut: a sentence, or a piece of one that is too long. line: its block."""

    text: str
    words: int
    line: int


def cut(sections: Iterable[Section], words: int) -> Iterator[Passage]:
    """Passages in reading order; no passage crosses a heading. words: length aimed at."""
    for section in sections:
        units = list(_units(section, words))
        for group in _groups(units, words):
            yield Passage(section.headings, _join(group))


def _units(section: Section, words: int) -> Iterator[Unit]:
    for line, block in enumerate(section.blocks):
        for sentence in sentences(block):
            for piece in _pieces(sentence, words):
                yield Unit(piece, len(piece.split()), line)


def _pieces(sentence: str, words: int) -> Iterator[str]:
    """The sentence, or pieces of at most `words` words and MAX_CHARACTERS characters."""
    piece: list[str] = []
    length = 0
    for word in _short_words(sentence):
        if piece and (len(piece) == words or length + len(word) >= MAX_CHARACTERS):
            yield " ".join(piece)
            piece, length = [], 0
        piece.append(word)
        length += len(word) + 1
    if piece:
        yield " ".join(piece)


def _short_words(sentence: str) -> Iterator[str]:
    for word in sentence.split():
        for start in range(0, len(word), MAX_CHARACTERS):
            yield word[start : start + MAX_CHARACTERS]


def _groups(units: list[Unit], words: int) -> Iterator[list[Unit]]:
    """Neighbours whose words come near to an equal share, so that no stub is left at the end."""
    total = sum(unit.words for unit in units)
    share = total / max(1, ceil(total / words))
    group: list[Unit] = []
    for unit in units:
        filled = sum(member.words for member in group)
        full = filled + unit.words / 2 > share
        if group and (full or _characters(group) + len(unit.text) >= MAX_CHARACTERS):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _characters(group: list[Unit]) -> int:
    return sum(len(unit.text) + 1 for unit in group)


def _join(group: list[Unit]) -> str:
    """Sentences of one block on one line, blocks on lines of their own."""
    text = group[0].text
    for before, unit in pairwise(group):
        text += ("\n" if unit.line != before.line else " ") + unit.text
    return text
