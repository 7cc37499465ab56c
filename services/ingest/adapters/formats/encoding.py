"""Strict decoding of text documents."""

import codecs

from services.ingest.domain.cleaning import clean
from services.ingest.domain.documents import Rejected

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(content: bytes, charset: str) -> str:
    """Clean text. A byte order mark wins over no charset; without either it is UTF-8.

    Rejected(ENCODING_INVALID) on the first wrong byte, and on NUL, which is no text.
    """
    encoding = charset or next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise Rejected("ENCODING_INVALID") from error
    if "\0" in text:
        raise Rejected("ENCODING_INVALID")
    return clean(text)
