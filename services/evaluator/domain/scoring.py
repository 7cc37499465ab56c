"""Scorers of one answer against its sample; pure functions with values between 0 and 1."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

CITATION_MARKER = re.compile(r"\[\d+\]")
ARTICLE = re.compile(r"\b(a|an|the)\b")
ROUGE_SEPARATOR = re.compile(r"[^a-z0-9]+")


def strip_citations(text: str) -> str:
    """The text without markers such as "[1]", which are scored on their own."""
    return CITATION_MARKER.sub(" ", text)


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(mark for mark in strip_citations(text).lower() if not _is_punctuation(mark))
    return " ".join(ARTICLE.sub(" ", bare).split())


def _is_punctuation(mark: str) -> bool:
    return mark in string.punctuation or unicodedata.category(mark).startswith("P")


def exact_match(answer: str, target: str) -> float:
    """1.0 when both have the same normal form."""
    return float(normalise(answer) == normalise(target))


def token_f1(answer: str, target: str) -> float:
    """Harmonic mean of precision and recall over the words of the normal forms."""
    said, wanted = normalise(answer).split(), normalise(target).split()
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def rouge_l(answer: str, target: str) -> float:
    """F-measure of the longest common subsequence of words, as the rouge-score package counts.

    Written out because that package loads a hundred megabytes to do this.
    """
    said, wanted = rouge_words(strip_citations(answer)), rouge_words(target)
    common = longest_common(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rouge_words(text: str) -> list[str]:
    """Runs of ASCII letters and digits, lower case."""
    return [word for word in ROUGE_SEPARATOR.split(text.lower()) if word]


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        above = row
        row = [0]
        for place, other in enumerate(second):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[place]))
    return row[-1]


def citation_correct(cited: Collection[str], wanted: Collection[str]) -> bool:
    """Whether a cited document is one that holds the answer."""
    return bool(set(cited) & set(wanted))
