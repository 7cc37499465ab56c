"""Documents made for the tests."""

import io
import zipfile

from docx import Document
from fpdf import FPDF


def pdf(pages: list[list[tuple[str, int]]], footer: str = "") -> bytes:
    """Pages of (text, type size) lines."""
    document = FPDF()
    document.set_auto_page_break(False)
    for lines in pages:
        document.add_page()
        for text, size in lines:
            document.set_font("Helvetica", size=size)
            document.multi_cell(0, size / 2, text, new_x="LMARGIN", new_y="NEXT")
        document.set_y(-12)
        document.set_font("Helvetica", size=8)
        document.cell(0, 6, footer)
    return bytes(document.output())


def encrypted_pdf() -> bytes:
    document = FPDF()
    document.set_encryption(owner_password="owner", user_password="user")
    document.add_page()
    document.set_font("Helvetica", size=11)
    document.cell(0, 6, "secret")
    return bytes(document.output())


def docx(build: str = "simple") -> bytes:
    document = Document()
    document.add_heading("Van fleet", 0)
    document.add_heading("Vans", 1)
    document.add_paragraph("The depot has 29 vans.")
    table = document.add_table(rows=2, cols=2)
    for index, text in enumerate(["Site", "Vans", "Veldmouth", "15"]):
        table.cell(index // 2, index % 2).text = text
    document.sections[0].footer.paragraphs[0].text = "internal use only"
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def zip_bomb(megabytes: int) -> bytes:
    """A DOCX whose main part unpacks to this much."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<a>" + b" " * (megabytes << 20))
    return buffer.getvalue()
