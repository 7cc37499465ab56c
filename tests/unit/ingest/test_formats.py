"""Each media type gives headings and text, and nothing that a reader would not call text."""

import pytest

from services.ingest.adapters.preparation import Limits, Source, prepare, read
from services.ingest.domain.documents import Rejected, Section
from services.ingest.domain.submissions import DOCX, PDF
from tests.unit.ingest import files

LIMITS = Limits(max_pages=20, max_expanded_bytes=8 << 20, max_chunks=50, passage_words=80)

MARKDOWN = """---
owner: x
---
# Connector

Carries **420** [amperes](http://x "t") ![a plug](p.png)
and more.

## Parts
- one `KL-1`
- two

| Part | Price |
|------|-------|
| Plug | 10    |

```sh
run --now
```
"""

HTML = """<html><head><title>t</title><style>p{}</style></head><body>
<header><nav>Menu</nav></header><main><h1>Buoy</h1><p>Stores <b>52</b> kWh.<br>Floats.</p>
<h2>Plans</h2><table><tr><th>Plan</th><th>Price</th></tr><tr><td>Cove</td><td>59</td></tr></table>
<ul><li>one</li><li>two</li></ul><script>track()</script><p hidden>no</p></main>
<footer>Imprint</footer></body></html>"""

PLAIN = """Runbook
=======
The backup starts
at 01:40.

Storage
-------
- first copy
- second copy
"""


def test_markdown_keeps_text_and_drops_markup() -> None:
    assert read("text/markdown", MARKDOWN.encode(), LIMITS) == [
        Section(("Connector",), ("Carries 420 amperes a plug and more.",)),
        Section(
            ("Connector", "Parts"), ("one KL-1", "two", "Part: Plug; Price: 10", "run --now\n")
        ),
    ]


def test_html_drops_menus_scripts_and_footers() -> None:
    assert read("text/html", HTML.encode(), LIMITS) == [
        Section(("Buoy",), ("Stores 52 kWh.\nFloats.",)),
        Section(("Buoy", "Plans"), ("Plan: Cove; Price: 59", "one", "two")),
    ]


def test_html_without_a_main_part_gives_its_body() -> None:
    page = b"<body><header>top</header><div>a<p>b <i>c</i></p>d</div></body>"
    assert read("text/html", page, LIMITS) == [Section((), ("a", "b c", "d"))]


def test_plain_text_has_underlined_headings_and_bullets() -> None:
    assert read("text/plain", PLAIN.encode(), LIMITS) == [
        Section(("Runbook",), ("The backup starts at 01:40.",)),
        Section(("Runbook", "Storage"), ("- first copy", "- second copy")),
    ]


def test_pdf_has_headings_by_size_and_no_running_lines() -> None:
    body = "The robot needs 34 seconds to moor. " * 6
    content = files.pdf([[("Moorhand", 20), ("Use", 14), (body, 11)]] * 2, "internal - page 1")
    sections = read(PDF, content, LIMITS)
    assert {section.headings for section in sections} == {("Moorhand", "Use")}
    text = " ".join(block for section in sections for block in section.blocks)
    assert text.count("34 seconds") == 12
    assert "internal" not in text


def test_docx_has_headings_by_style_and_tables() -> None:
    assert read(DOCX, files.docx(), LIMITS) == [
        Section(("Van fleet", "Vans"), ("The depot has 29 vans.", "Site: Veldmouth; Vans: 15"))
    ]


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("text/plain", "Müller".encode()),
        ("text/plain; charset=latin-1", "Müller".encode("latin-1")),
        ("text/plain", "Müller".encode("utf-16")),
        ("text/plain; charset=utf-16", "Müller".encode("utf-16")),
        ("text/plain", "\ufeffMüller".encode()),
        ("text/html", b'<meta charset="windows-1252"><p>M\xfcller'),
        ("text/html; charset=windows-1252", b"<p>M\xfcller"),
    ],
)
def test_reads_the_declared_encoding(media_type: str, content: bytes) -> None:
    assert read(media_type, content, LIMITS) == [Section((), ("Müller",))]


BAD = [
    ("text/plain", b"M\xfcller", "ENCODING_INVALID"),
    ("text/plain; charset=utf-16", b"abc", "ENCODING_INVALID"),
    ("text/markdown", b"a\x00b", "ENCODING_INVALID"),
    ("text/html", b'<meta charset="nonsense"><p>x', "ENCODING_INVALID"),
    ("text/html", b"<html><script>x()</script></html>", "DOCUMENT_EMPTY"),
    ("text/markdown", b"# Only a heading", "DOCUMENT_EMPTY"),
    (PDF, b"%PDF-1.7 not really", "DOCUMENT_BROKEN"),
    (PDF, b"plain text", "DOCUMENT_BROKEN"),
    (PDF, files.pdf([[("Text", 11)]])[:400], "DOCUMENT_BROKEN"),
    (PDF, files.encrypted_pdf(), "DOCUMENT_BROKEN"),
    (PDF, files.pdf([[]]), "DOCUMENT_EMPTY"),
    (PDF, files.pdf([[("Text", 11)]] * 21), "DOCUMENT_TOO_LARGE"),
    (DOCX, b"PK\x03\x04 not really", "DOCUMENT_BROKEN"),
    (DOCX, files.zip_bomb(1), "DOCUMENT_BROKEN"),
    (DOCX, files.zip_bomb(16), "DOCUMENT_TOO_LARGE"),
    ("text/plain", b"\n\n".join(b"word " * 90 for _ in range(51)), "DOCUMENT_TOO_LARGE"),
]


@pytest.mark.parametrize(("media_type", "content", "reason"), BAD)
def test_refuses_with_the_reason(media_type: str, content: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        prepare(Source(media_type, "", ""), content, LIMITS)
    assert rejected.value.reason == reason


def test_masks_title_headings_text_and_source() -> None:
    source = Source("text/markdown", "Contact jo@harbour.example", "mailto:jo@harbour.example")
    content = b"# Call +44 7700 900123\n\nIBAN DE89 3704 0044 0532 0130 00 is ours.\n"
    prepared = prepare(source, content, LIMITS)
    assert prepared.title == "Contact [EMAIL]"
    assert prepared.source_uri == "mailto:[EMAIL]"
    assert prepared.passages[0].headings == ("Call [PHONE]",)
    assert prepared.passages[0].text == "IBAN [IBAN] is ours."
    assert prepared.masked_count == 4


def test_masks_what_a_cut_or_an_invisible_character_would_hide() -> None:
    words = "word " * 79
    content = f"{words}4111 1111 1111 1111 and jo\u200b@harbour.example\n".encode()
    prepared = prepare(Source("text/plain", "", ""), content, LIMITS)
    text = " ".join(passage.text for passage in prepared.passages)
    assert "4111" not in text
    assert "harbour" not in text
    assert prepared.masked_count == 2


def test_a_title_is_taken_from_the_first_heading_when_none_is_given() -> None:
    prepared = prepare(Source("text/markdown", " ", ""), b"# Guide\n\ntext\n", LIMITS)
    assert prepared.title == "Guide"
