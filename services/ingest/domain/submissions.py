"""Cheap rules that a submission must keep before anything reads it."""

import codecs
import hashlib
import re
from dataclasses import dataclass

from services.ingest.domain.documents import Rejected

MARKDOWN = "text/markdown"
HTML = "text/html"
PLAIN = "text/plain"
PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TEXT_TYPES = frozenset({MARKDOWN, HTML, PLAIN})
MEDIA_TYPES = TEXT_TYPES | {PDF, DOCX}

MAX_TITLE = 500
MAX_SOURCE_URI = 2_000
_DOCUMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,255}")
# Python calls these encodings; no document is written in them.
_NO_CHARSETS = frozenset({"unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"})
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._:-]{1,40})\"?", re.IGNORECASE)


@dataclass(frozen=True)
class MediaType:
    """charset: what the producer declared in lower case, or empty."""

    name: str
    charset: str


def parse_media_type(value: str) -> MediaType:
    """Rejected(MEDIA_TYPE_UNSUPPORTED | ENCODING_INVALID) when ingest cannot read it."""
    name = value.split(";", 1)[0].strip().lower()
    if name not in MEDIA_TYPES:
        raise Rejected("MEDIA_TYPE_UNSUPPORTED")
    match = _CHARSET.search(value)
    charset = match.group(1).lower() if match else ""
    if charset and name in TEXT_TYPES and not _is_text_encoding(charset):
        raise Rejected("ENCODING_INVALID")
    return MediaType(name, charset)


def _is_text_encoding(charset: str) -> bool:
    try:
        # An empty string would be decoded without a look at the codec.
        b"x".decode(charset)
        return codecs.lookup(charset).name not in _NO_CHARSETS
    except UnicodeError:
        return True
    except LookupError:
        return False


def invalid_field(document_id: str, title: str, source_uri: str) -> str:
    """Name of the first field that breaks its rule, or empty."""
    if not _DOCUMENT_ID.fullmatch(document_id):
        return "document_id"
    if len(title) > MAX_TITLE:
        return "title"
    return "source_uri" if len(source_uri) > MAX_SOURCE_URI else ""


def check_content(content: bytes, max_bytes: int) -> None:
    """Rejected(DOCUMENT_EMPTY | DOCUMENT_TOO_LARGE)."""
    if not content.strip():
        raise Rejected("DOCUMENT_EMPTY")
    if len(content) > max_bytes:
        raise Rejected("DOCUMENT_TOO_LARGE")


def content_hash(media_type: str, title: str, content: bytes) -> str:
    """SHA-256 over media type, title and bytes, hexadecimal; boundaries count."""
    digest = hashlib.sha256()
    for part in (media_type.strip().lower().encode(), title.encode(), content):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
