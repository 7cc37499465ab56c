"""Word documents: headings by style, paragraphs and tables; headers and footers are left out."""

import io
import re
import zipfile
from collections.abc import Iterator

from docx import Document
from docx.document import Document as DocxDocument
from docx.table import Table
from docx.text.paragraph import Paragraph

from services.ingest.adapters.formats.outline import Outline
from services.ingest.adapters.formats.tables import table_lines
from services.ingest.domain.cleaning import clean
from services.ingest.domain.documents import Rejected, Section

MAX_PARTS = 5_000
_HEADING_STYLE = re.compile(r"heading (\d)", re.IGNORECASE)


def read(content: bytes, max_expanded_bytes: int) -> list[Section]:
    """Rejected(DOCUMENT_BROKEN | DOCUMENT_TOO_LARGE): the size it unpacks to is checked first."""
    _check_expanded_size(content, max_expanded_bytes)
    outline = Outline()
    try:
        for item in _items(Document(io.BytesIO(content))):
            _add(outline, item)
    except MemoryError:
        raise
    except Exception as error:
        raise Rejected("DOCUMENT_BROKEN") from error
    return outline.sections()


def _check_expanded_size(content: bytes, limit: int) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Rejected("DOCUMENT_BROKEN") from error
    # Reading stops at the declared size, so the declaration cannot lie to its advantage.
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > limit:
        raise Rejected("DOCUMENT_TOO_LARGE")


def _items(document: DocxDocument) -> Iterator[Paragraph | Table]:
    yield from document.iter_inner_content()


def _add(outline: Outline, item: Paragraph | Table) -> None:
    if isinstance(item, Table):
        rows = [[" ".join(clean(cell.text).split()) for cell in row.cells] for row in item.rows]
        for line in table_lines(rows, header=True):
            outline.block(line)
        return
    style = item.style.name if item.style is not None else None
    level = _heading_level(style or "")
    if level is not None:
        outline.heading(level, item.text)
    else:
        outline.block(clean(item.text))


def _heading_level(style: str) -> int | None:
    """0 for the title, then Word's own levels; None for other text."""
    if style.lower() == "title":
        return 0
    match = _HEADING_STYLE.match(style)
    return int(match.group(1)) if match else None
