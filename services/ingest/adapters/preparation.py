"""From the submitted bytes to clean, masked passages; runs in a process of its own."""

from dataclasses import dataclass

from services.ingest.adapters.formats import docx, html, markdown, pdf, plain
from services.ingest.adapters.formats.encoding import decode
from services.ingest.domain.cleaning import one_line
from services.ingest.domain.documents import Passage, Prepared, Rejected, Section
from services.ingest.domain.passages import cut
from services.ingest.domain.submissions import DOCX, HTML, MARKDOWN, PDF, parse_media_type
from tidemill.security.personal_data import Masked, mask


@dataclass(frozen=True)
class Limits:
    """What one document may take."""

    max_pages: int
    max_expanded_bytes: int
    max_chunks: int
    passage_words: int


@dataclass(frozen=True)
class Source:
    """A submission without its content."""

    media_type: str
    title: str
    source_uri: str


def prepare(source: Source, content: bytes, limits: Limits) -> Prepared:
    """Raises Rejected. Personal data is masked before the text is cut, so no cut can hide it."""
    masking = _Masking()
    sections = [masking.section(section) for section in read(source.media_type, content, limits)]
    passages: list[Passage] = []
    for passage in cut(sections, limits.passage_words):
        passages.append(passage)
        if len(passages) > limits.max_chunks:
            raise Rejected("DOCUMENT_TOO_LARGE")
    if not passages:
        raise Rejected("DOCUMENT_EMPTY")
    title = masking.text(one_line(source.title) or _first_heading(sections))
    source_uri = masking.text(one_line(source.source_uri))
    return Prepared(title, source_uri, tuple(passages), masking.count)


def read(media_type: str, content: bytes, limits: Limits) -> list[Section]:
    """Sections of the document, unmasked."""
    media = parse_media_type(media_type)
    if media.name == PDF:
        return pdf.read(content, limits.max_pages)
    if media.name == DOCX:
        return docx.read(content, limits.max_expanded_bytes)
    if media.name == HTML:
        return html.read(decode(content, media.charset or html.declared_charset(content)))
    text = decode(content, media.charset)
    return markdown.read(text) if media.name == MARKDOWN else plain.read(text)


def _first_heading(sections: list[Section]) -> str:
    return next((section.headings[0] for section in sections if section.headings), "")


class _Masking:
    """Masks and counts."""

    def __init__(self) -> None:
        self.count = 0

    def text(self, text: str) -> str:
        masked: Masked = mask(text)
        self.count += masked.count
        return masked.text

    def section(self, section: Section) -> Section:
        return Section(
            tuple(self.text(heading) for heading in section.headings),
            tuple(self.text(block) for block in section.blocks),
        )
