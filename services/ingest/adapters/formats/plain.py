"""Plain text: paragraphs, bullets, and headings that are underlined."""

import re

from services.ingest.adapters.formats.outline import Outline
from services.ingest.domain.documents import Section

_UNDERLINE = re.compile(r"(=|-|~|\^){3,}\s*")
_BULLET = re.compile(r"\s*(?:[-*\u2022\u2013]|\d{1,3}[.)])\s+")
_LEVELS = {"=": 1, "-": 2, "~": 3, "^": 4}


def read(text: str) -> list[Section]:
    """Lines of a paragraph are joined; a bullet is a block of its own."""
    outline = Outline()
    paragraph: list[str] = []
    for line in text.split("\n"):
        underline = _UNDERLINE.fullmatch(line)
        if underline and len(paragraph) == 1 and len(line.strip()) + 3 >= len(paragraph[0]) / 2:
            outline.heading(_LEVELS[underline.group(1)], paragraph.pop())
        elif not line.strip() or underline or _BULLET.match(line):
            _flush(outline, paragraph)
        if line.strip() and not underline:
            paragraph.append(line.strip())
    _flush(outline, paragraph)
    return outline.sections()


def _flush(outline: Outline, paragraph: list[str]) -> None:
    outline.block(" ".join(paragraph))
    paragraph.clear()
