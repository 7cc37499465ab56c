"""Does a sentence say anything that its sources do not? Figures and names first.

Lexical support separated right answers from changed ones far better than asking the small model
itself (docs/decisions/0008-prompt-and-refusal.md), and it costs microseconds.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.inference.domain.citations import without_markers

_WORD = re.compile(r"\w+(?:[-.,:/'\u2019]\w+)*")
_DIGITS = re.compile(r"\d+(?:[.,:]\d+)*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LIST_NUMBER = re.compile(r"^[ \t]*\d{1,2}[.)](?=\s)", re.MULTILINE)
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+|\n)[\W_]*$")

_SPELLED = (
    ("two", "second"),
    ("three", "third"),
    ("four", "fourth"),
    ("five", "fifth"),
    ("six", "sixth"),
    ("seven", "seventh"),
    ("eight", "eighth"),
    ("nine", "ninth"),
    ("ten", "tenth"),
    ("eleven", "eleventh"),
    ("twelve", "twelfth"),
)
_NUMBER_WORDS = {word: str(value) for value, words in enumerate(_SPELLED, 2) for word in words}
_VAGUE_NUMBERS = {"second"}  # as often a moment; "one" and "first" are mostly no figures at all

_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about after all also am an and any are as at be been before but by can celsius could do
        does each fahrenheit for from had has have he her his how i if in into is it its may must
        no none not of on one only or our per please pm shall she should so some such than that
        the their them then there these they this those to under until up was we were what when
        where which who why will with would yes you your
        answer answers document documents passage passages question
        """,
    )
)


@dataclass(frozen=True)
class Sources:
    """What an answer may draw on, cut into words once."""

    words: frozenset[str]
    numbers: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Sources":
        """Sources of passages (with their titles) and of the question, which may be repeated."""
        words = {folded for text in texts for _, folded in _words(text)}
        numbers = {number for word in words for number in _numbers(word)}
        return cls(frozenset(words | {_stem(word) for word in words}), frozenset(numbers))


def ungrounded(sentence: str, sources: Sources) -> bool:
    """True when a figure or a name has no source, or when no word of the sentence has one."""
    said = _LIST_NUMBER.sub("", without_markers(sentence))
    claims = list(_claims(said))
    if any(not _supported(claim, sources) for claim in claims):
        return True
    content = [word for _, word in _words(said) if word not in _FUNCTION_WORDS]
    return bool(content) and not any(_supported(word, sources) for word in content)


def _claims(text: str) -> Iterator[str]:
    """Words that can be checked: with a digit, a spelled number, or a name inside a sentence."""
    for match, folded in _words(text):
        spelled = folded in _NUMBER_WORDS and folded not in _VAGUE_NUMBERS
        inside = not _SENTENCE_START.search(text[: match.start()])
        name = inside and match[0][0].isupper() and folded not in _FUNCTION_WORDS
        if spelled or name or any(character.isdigit() for character in folded):
            yield folded


def _supported(word: str, sources: Sources) -> bool:
    if word in sources.words or _stem(word) in sources.words:
        return True
    if word[0].isdigit() or word in _NUMBER_WORDS:
        return all(number in sources.numbers for number in _numbers(word))
    if any(character.isdigit() for character in word):
        return False  # a code is right as a whole or not at all
    return "-" in word and all(_supported(part, sources) for part in word.split("-"))


def _words(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for match in _WORD.finditer(_THOUSANDS.sub("", text)):
        yield match, match[0].casefold().replace("\u2019", "'")


def _numbers(word: str) -> list[str]:
    """Figures in a word; the digits of a code such as "sg-309" are none."""
    if word in _NUMBER_WORDS:
        return [_NUMBER_WORDS[word]]
    return [_canonical(match[0]) for match in _DIGITS.finditer(word)] if word[0].isdigit() else []


def _canonical(number: str) -> str:
    """ "01:40" and "1:40" are the same figure, as are "4.0" and "4"."""
    parts = [part.lstrip("0") or "0" for part in re.split(r"[:,]", number)]
    joined = ":".join(parts)
    return joined.rstrip("0").rstrip(".") if "." in joined else joined


def _stem(word: str) -> str:
    return re.sub(r"(?:'s|s')$|(?<=\w{3})(?:es|s)$", "", word)
