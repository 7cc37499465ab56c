"""PDF: text in reading order, headings by their size, running headers and footers left out."""

import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from services.ingest.adapters.formats.outline import Outline
from services.ingest.domain.cleaning import clean
from services.ingest.domain.documents import Rejected, Section

HEADING_RATIO = 1.15
SMALL_RATIO = 0.85
MARGIN = 0.09
"""Share of a page's height, at its top and at its foot, where small print is a running line."""


@dataclass(frozen=True)
class Line:
    """A printed line. size: of its type in points; place: 0 at the page's foot, 1 at its top."""

    text: str
    size: float
    place: float
    page: int


def read(content: bytes, max_pages: int) -> list[Section]:
    """Rejected(DOCUMENT_BROKEN | DOCUMENT_TOO_LARGE); encrypted documents count as broken."""
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted:
            raise Rejected("DOCUMENT_BROKEN")
        if len(reader.pages) > max_pages:
            raise Rejected("DOCUMENT_TOO_LARGE")
        lines = [line for page in range(len(reader.pages)) for line in _lines(reader, page)]
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Rejected("DOCUMENT_BROKEN") from error
    except (ArithmeticError, OSError, RecursionError, NotImplementedError) as error:
        raise Rejected("DOCUMENT_BROKEN") from error
    return _sections([line for line in lines if line.text])


def _lines(reader: PdfReader, number: int) -> list[Line]:
    page = reader.pages[number]
    height = float(page.mediabox.height) or 1.0
    pieces: list[tuple[str, float, float]] = []

    def visit(text: str, matrix: Any, text_matrix: Any, font: Any, size: float) -> None:
        if text:
            scale = abs(text_matrix[3] * matrix[3]) or 1.0
            pieces.append((text, size * scale, (text_matrix[5] * matrix[3] + matrix[5]) / height))

    page.extract_text(visitor_text=visit)
    return _joined(pieces, number)


def _joined(pieces: list[tuple[str, float, float]], page: int) -> list[Line]:
    """Pieces between two line ends are one line, as large as its largest piece."""
    lines: list[Line] = []
    text, size, place = "", 0.0, 0.0
    for piece, piece_size, piece_place in pieces:
        for index, part in enumerate(clean(piece).split("\n")):
            if index:
                lines.append(Line(" ".join(text.split()), size, place, page))
                text, size = "", 0.0
            text += part
            if part.strip():
                size, place = max(size, piece_size), piece_place
    lines.append(Line(" ".join(text.split()), size, place, page))
    return lines


def _sections(lines: list[Line]) -> list[Section]:
    body = _body_size(lines)
    sizes = sorted({round(x.size, 1) for x in lines if x.size > body * HEADING_RATIO}, reverse=True)
    running = _running_texts(lines, body)
    outline = Outline()
    paragraph: list[str] = []
    for line in lines:
        if _without_numbers(line.text) in running:
            continue
        if line.size > body * HEADING_RATIO and len(line.text) <= 150:
            _flush(outline, paragraph)
            outline.heading(sizes.index(round(line.size, 1)) + 1, line.text)
        else:
            paragraph.append(line.text)
    _flush(outline, paragraph)
    return outline.sections()


def _body_size(lines: list[Line]) -> float:
    """The size that most characters are set in."""
    characters: Counter[float] = Counter()
    for line in lines:
        characters[round(line.size, 1)] += len(line.text)
    return characters.most_common(1)[0][0] if characters else 0.0


def _running_texts(lines: list[Line], body: float) -> set[str]:
    """Lines at a page's edge that are small print, or that come on several pages."""
    edge = [x for x in lines if x.place < MARGIN or x.place > 1 - MARGIN]
    pages: dict[str, set[int]] = {}
    for line in edge:
        pages.setdefault(_without_numbers(line.text), set()).add(line.page)
    small = {_without_numbers(x.text) for x in edge if x.size < body * SMALL_RATIO}
    return small | {text for text, seen in pages.items() if len(seen) >= 3}


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)


def _flush(outline: Outline, paragraph: list[str]) -> None:
    text = "\n".join(paragraph)
    text = re.sub(r"(?<=[a-z])[-\u2010]\n(?=[a-z])", "", text)
    outline.block(text.replace("\n", " "))
    paragraph.clear()
