"""A document's history comes out right whatever overtakes what."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.documents import Rejected
from services.ingest.domain.submissions import (
    check_content,
    content_hash,
    invalid_field,
    parse_media_type,
)
from services.ingest.domain.versions import (
    NewVersion,
    Overtaken,
    Standing,
    Unchanged,
    submit,
    withdraw,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)


def test_the_first_submission_is_version_one() -> None:
    assert submit(Standing(), "a", NOON) == NewVersion(1)


def test_the_same_content_is_nothing_new_and_other_content_the_next_version() -> None:
    standing = Standing(4, "a", NOON)
    assert submit(standing, "a", LATER) == Unchanged()
    assert submit(standing, "b", LATER) == NewVersion(5)


def test_a_withdrawal_takes_a_version_once() -> None:
    assert withdraw(Standing(1, "a", NOON), LATER) == NewVersion(2)
    assert withdraw(Standing(2, "", NOON, LATER), LATER) == Unchanged()
    assert withdraw(Standing(), NOON) == Unchanged()


def test_the_same_content_after_a_withdrawal_is_a_new_version() -> None:
    assert submit(Standing(2, "", NOON, LATER), "a", LATER) == NewVersion(3)


def test_a_withdrawal_that_was_handled_early_still_catches_its_submission() -> None:
    assert submit(Standing(withdrawn_time=LATER), "a", NOON) == Overtaken()


def test_a_newer_content_that_was_handled_early_stays() -> None:
    standing = Standing(1, "b", LATER)
    assert submit(standing, "a", NOON) == Overtaken()
    assert submit(standing, "b", NOON) == Unchanged()


def test_a_withdrawal_that_was_handled_late_spares_the_newer_submission() -> None:
    assert withdraw(Standing(1, "a", LATER), NOON) == Overtaken()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("image/png", "MEDIA_TYPE_UNSUPPORTED"),
        ("", "MEDIA_TYPE_UNSUPPORTED"),
        ("text/markdown; charset=klingon", "ENCODING_INVALID"),
        ("text/plain; charset=base64", "ENCODING_INVALID"),
        ("text/plain; charset=unicode_escape", "ENCODING_INVALID"),
    ],
)
def test_refuses_media_types_it_cannot_read(value: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_media_type(value)
    assert rejected.value.reason == reason


@pytest.mark.parametrize(
    ("value", "name", "charset"),
    [
        ("text/markdown", "text/markdown", ""),
        (' Text/HTML ; Charset="ISO-8859-1"', "text/html", "iso-8859-1"),
        ("text/plain; format=flowed; charset=utf-16", "text/plain", "utf-16"),
    ],
)
def test_reads_media_types_as_the_field_writes_them(value: str, name: str, charset: str) -> None:
    media = parse_media_type(value)
    assert (media.name, media.charset) == (name, charset)


@pytest.mark.parametrize(
    ("identifier", "field"),
    [
        ("hr/annual-leave", ""),
        ("a" * 256, ""),
        ("", "document_id"),
        ("a" * 257, "document_id"),
        ("../x", "document_id"),
        ("a b", "document_id"),
        ("jo@harbour.example", "document_id"),
        ("a\n", "document_id"),
    ],
)
def test_document_ids_are_plain_names(identifier: str, field: str) -> None:
    assert invalid_field(identifier, "", "") == field


def test_titles_and_sources_are_bounded() -> None:
    assert invalid_field("d", "t" * 501, "") == "title"
    assert invalid_field("d", "", "u" * 2_001) == "source_uri"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "DOCUMENT_EMPTY"), (b" \n\t", "DOCUMENT_EMPTY"), (b"x" * 11, "DOCUMENT_TOO_LARGE")],
)
def test_refuses_content_by_its_size(content: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        check_content(content, 10)
    assert rejected.value.reason == reason


@given(*[st.tuples(st.text(), st.text(), st.binary())] * 2)
def test_the_content_hash_tells_everything_apart(
    one: tuple[str, str, bytes], two: tuple[str, str, bytes]
) -> None:
    normal_one = (one[0].strip().lower(), *one[1:])
    normal_two = (two[0].strip().lower(), *two[1:])
    assert (content_hash(*one) == content_hash(*two)) == (normal_one == normal_two)
