"""HTML: what a reader of the page would call its text; menus, scripts and footers are dropped."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.ingest.adapters.formats.outline import Outline
from services.ingest.adapters.formats.tables import table_lines
from services.ingest.domain.documents import Section

_BOILERPLATE = (
    "script, style, noscript, template, svg, iframe, object, nav, footer, aside, form, dialog, "
    "head, [hidden], [aria-hidden=true], [role=navigation], [role=banner], [role=contentinfo]"
)
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|cite|code|data|del|dfn|em|font|i|img|input|ins|kbd|label|mark|q|s|samp|"
    "small|span|strike|strong|sub|sup|time|tt|u|var|wbr|-text"
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})", re.I)


def declared_charset(content: bytes) -> str:
    """Charset of the page's own meta element, or empty."""
    match = _META_CHARSET.search(content[:4096])
    return match.group(1).decode("ascii").lower() if match else ""


def read(text: str) -> list[Section]:
    """Sections of a page's main part, or of its body where it names none."""
    outline = Outline()
    walk = _Walk(outline)
    root = _main_part(text)
    for node in root.traverse(include_text=True) if root else ():
        walk.visit(node)
    walk.close()
    return outline.sections()


def text_of(fragment: str) -> str:
    """Text of a piece of HTML."""
    root = _main_part(fragment)
    return root.text(separator=" ") if root else ""


def _main_part(text: str) -> LexborNode | None:
    tree = LexborHTMLParser(text)
    _remove(tree, _BOILERPLATE)
    main = tree.css_first("main") or tree.css_first("article")
    if main is None:
        _remove(tree, "body > header")
    return main or tree.body


def _remove(tree: LexborHTMLParser, selector: str) -> None:
    for node in tree.css(selector):
        node.remove(recursive=True)


class _Walk:
    """Gathers text by the nearest element that starts a line, and tables by their rows."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._owner: LexborNode | None = None
        self._text: list[str] = []
        self._table: LexborNode | None = None

    def visit(self, node: LexborNode) -> None:
        if node.tag == "table" and self._table is None:
            self.close()
            self._table_rows(node)
            self._table = node
        if node.tag == "br":
            self._text.append("\n")
        if node.tag != "-text":
            return
        owner = _line_owner(node)
        if self._table is not None and _inside(node, self._table):
            return
        self._table = None
        if self._owner is None or owner.mem_id != self._owner.mem_id:
            self.close()
            self._owner = owner
        self._text.append(node.text_content or "")

    def close(self) -> None:
        text = "\n".join(" ".join(line.split()) for line in "".join(self._text).split("\n"))
        level = _HEADINGS.get(self._owner.tag or "", 0) if self._owner else 0
        if level:
            self._outline.heading(level, text)
        else:
            self._outline.block(text)
        self._owner, self._text = None, []

    def _table_rows(self, table: LexborNode) -> None:
        rows = table.css("tr")
        cells = [
            [" ".join(c.text(separator=" ").split()) for c in row.css("th, td")] for row in rows
        ]
        header = bool(rows) and not rows[0].css("td")
        for line in table_lines(cells, header):
            self._outline.block(line)


def _line_owner(node: LexborNode) -> LexborNode:
    owner = node
    while owner.parent is not None and _INLINE.fullmatch(owner.tag or ""):
        owner = owner.parent
    return owner


def _inside(node: LexborNode, ancestor: LexborNode) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.mem_id == ancestor.mem_id:
            return True
        parent = parent.parent
    return False
