"""Scorers of one answer against its sample; pure functions with values between 0 and 1."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Collection

from rouge_score.rouge_scorer import RougeScorer

CITATION_MARKER = re.compile(r"\[\d+\]")
ARTICLE = re.compile(r"\b(a|an|the)\b")


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
    """F-measure of the longest common subsequence, citation markers stripped."""
    scores = RougeScorer(["rougeL"]).score(target, strip_citations(answer))
    return float(scores["rougeL"].fmeasure)


def citation_correct(cited: Collection[str], wanted: Collection[str]) -> bool:
    """Whether a cited document is one that holds the answer."""
    return bool(set(cited) & set(wanted))
