"""Markdown by CommonMark's rules, with tables; markup is left out, its text stays."""

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.ingest.adapters.formats import html
from services.ingest.adapters.formats.outline import Outline
from services.ingest.adapters.formats.tables import table_lines
from services.ingest.domain.documents import Section

_FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n){0,100}?---\n")


def read(text: str) -> list[Section]:
    """Sections of a Markdown document; front matter is dropped."""
    outline = Outline()
    tokens = MarkdownIt("commonmark").enable("table").parse(_FRONT_MATTER.sub("", text))
    rows: list[list[str]] = []
    opened = ""
    for token in tokens:
        if token.type == "inline":
            _inline(outline, token, opened, rows)
        elif token.type in ("fence", "code_block"):
            outline.block(token.content)
        elif token.type == "html_block":
            outline.block(html.text_of(token.content))
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "table_close":
            for line in table_lines(rows, header=True):
                outline.block(line)
            rows = []
        opened = token.type if token.type != "inline" else opened
        opened = f"{opened}:{token.tag}" if token.type == "heading_open" else opened
    return outline.sections()


def _inline(outline: Outline, token: Token, opened: str, rows: list[list[str]]) -> None:
    text = _plain(token)
    if opened.startswith("heading_open"):
        outline.heading(int(opened[-1]), text)
    elif opened in ("th_open", "td_open"):
        rows[-1].append(" ".join(text.split()))
    else:
        outline.block(text)


def _plain(token: Token) -> str:
    """Text of inline markup; a picture is its description, a line break a line break."""
    parts = []
    for child in token.children or []:
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak":
            parts.append("\n")
        elif child.type == "image":
            parts.append(_plain(child))
    return "".join(parts)
