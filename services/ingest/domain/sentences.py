"""Splits a block of text into sentences without losing a character that is not a space."""

import re

_BOUNDARY = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]+\s*|\n+")
_NOT_AN_END = re.compile(
    r"(?:\b(?:[A-Za-z]|mr|mrs|ms|dr|prof|st|no|nr|art|sec|fig|vs|approx|ca|etc|inc|ltd|dept|tel|"
    r"e\.g|i\.e|z\.B|d\.h|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec))\.\s+$",
    re.IGNORECASE,
)


def sentences(block: str) -> list[str]:
    """Non-empty sentences in order; joined by a space they are the block with single spaces."""
    parts: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(block):
        if _ends_sentence(block, match):
            parts.append(block[start : match.end()])
            start = match.end()
    parts.append(block[start:])
    return [" ".join(part.split()) for part in parts if part.strip()]


def _ends_sentence(block: str, match: re.Match[str]) -> bool:
    if match.group().startswith("\n") or match.group()[0] in "\u3002\uff01\uff1f":
        return True
    following = block[match.end() : match.end() + 1]
    if following.islower():
        return False
    return _NOT_AN_END.search(block[max(0, match.start() - 8) : match.end()]) is None
