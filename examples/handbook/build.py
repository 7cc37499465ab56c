"""Builds the PDF and DOCX documents of the example handbook from their text sources.

Run `python examples/handbook/build.py` after a change under `sources/`; the built files are
committed. Dates and identifiers are fixed, so the same source gives the same document.
"""

import argparse
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Literal

from docx import Document
from docx.document import Document as DocxDocument
from fpdf import FPDF
from fpdf.enums import XPos, YPos

HANDBOOK = Path(__file__).resolve().parent
PUBLISHED = datetime(2031, 3, 3, 9, 0, tzinfo=UTC)
AUTHOR = "Marrowick Tideworks"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

Kind = Literal["title", "heading", "bullet", "row", "paragraph"]
PREFIXES: tuple[tuple[str, Kind], ...] = (
    ("# ", "title"),
    ("## ", "heading"),
    ("- ", "bullet"),
    ("| ", "row"),
)


@dataclass(frozen=True)
class Block:
    """One line of a source file: its role and its text without the marker."""

    kind: Kind
    text: str

    @property
    def cells(self) -> list[str]:
        """The cells of a table row, left to right."""
        return [cell.strip() for cell in self.text.strip("|").split("|")]


def read_blocks(source: Path) -> list[Block]:
    """Read a source file; blank lines only separate."""
    lines = (line.strip() for line in source.read_text("utf-8").splitlines())
    return [block_of(line) for line in lines if line]


def block_of(line: str) -> Block:
    for prefix, kind in PREFIXES:
        if line.startswith(prefix):
            return Block(kind, line.removeprefix(prefix))
    return Block("paragraph", line)


def tables_joined(blocks: list[Block]) -> Iterator[list[Block]]:
    """Yield the blocks one by one, but neighbouring table rows together."""
    rows: list[Block] = []
    for block in blocks:
        if block.kind == "row":
            rows.append(block)
            continue
        if rows:
            yield rows
            rows = []
        yield [block]
    if rows:
        yield rows


def pdf_bytes(blocks: list[Block]) -> bytes:
    pdf = FPDF(format="A4")
    # Compressed streams differ between builds of zlib; plain ones are the same everywhere.
    pdf.set_compression(False)
    pdf.set_creation_date(PUBLISHED)
    pdf.set_author(AUTHOR)
    pdf.set_producer("examples/handbook/build.py")
    pdf.set_title(blocks[0].text)
    pdf.set_margins(22, 20)
    pdf.add_page()
    for group in tables_joined(blocks):
        add_to_pdf(pdf, group)
    add_footer(pdf)
    return bytes(pdf.output())


def add_to_pdf(pdf: FPDF, group: list[Block]) -> None:
    block = group[0]
    if block.kind == "row":
        pdf.set_font("Helvetica", size=10)
        with pdf.table([row.cells for row in group]):
            return
    style, size = {"title": ("B", 20), "heading": ("B", 14)}.get(block.kind, ("", 11))
    pdf.set_font("Helvetica", style=style, size=size)
    text = f"- {block.text}" if block.kind == "bullet" else block.text
    pdf.ln(3 if block.kind == "heading" else 0)
    pdf.multi_cell(0, size * 0.5, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(2)


def add_footer(pdf: FPDF) -> None:
    pdf.set_auto_page_break(False)
    pdf.set_y(-15)
    pdf.set_font("Helvetica", size=8)
    pdf.cell(0, 10, f"{AUTHOR} - internal document", align="C")


def docx_bytes(blocks: list[Block]) -> bytes:
    document = Document()
    properties = document.core_properties
    properties.author = properties.last_modified_by = AUTHOR
    properties.created = properties.modified = PUBLISHED.replace(tzinfo=None)
    properties.title = blocks[0].text
    properties.comments = ""
    for group in tables_joined(blocks):
        add_to_docx(document, group)
    buffer = BytesIO()
    document.save(buffer)
    return with_fixed_times(buffer.getvalue())


def add_to_docx(document: DocxDocument, group: list[Block]) -> None:
    block = group[0]
    if block.kind == "row":
        table = document.add_table(rows=0, cols=len(block.cells), style="Table Grid")
        for row in group:
            for cell, text in zip(table.add_row().cells, row.cells, strict=True):
                cell.text = text
    elif block.kind in ("title", "heading"):
        document.add_heading(block.text, level=0 if block.kind == "title" else 1)
    else:
        style = "List Bullet" if block.kind == "bullet" else None
        document.add_paragraph(block.text, style=style)


def with_fixed_times(archive: bytes) -> bytes:
    """Rewrite a zip archive so that no entry carries the time of the build."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, date_time=ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return buffer.getvalue()


BUILDERS = {"pdf": pdf_bytes, "docx": docx_bytes}


def build_all(output: Path) -> list[Path]:
    """Build every document under `sources/` into `output`; return the written paths."""
    written = []
    for source in sorted((HANDBOOK / "sources").rglob("*.md")):
        media, *area = source.relative_to(HANDBOOK / "sources").parts
        target = output.joinpath(*area).with_suffix(f".{media}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(BUILDERS[media](read_blocks(source)))
        written.append(target)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=re.sub(r"\s+", " ", __doc__ or ""))
    parser.add_argument("--output", type=Path, default=HANDBOOK / "documents")
    build_all(parser.parse_args().output)


if __name__ == "__main__":
    main()
