"""What is taken for an event: keys, ids, content types, and which unknown fields."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.api.events.v1 import AlertRaised, DocumentChunked, DocumentSubmitted
from tidemill.bus.envelope import (
    Record,
    check_attributes,
    decode,
    event_headers,
    has_unknown_fields,
    header_text,
    split_key,
)
from tidemill.faults import Fault, Reason
from tidemill.topics import ALERTS_RAISED, CATALOGUE, DOCUMENTS_CHUNKED, DOCUMENTS_SUBMITTED

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNKNOWN = b"\xfa\xff\x03\x01a"  # field 8191, a string of one byte


def record(value: bytes | None = b"", **headers: str) -> Record:
    given_headers = {
        name if name.startswith("ce_") else name.replace("_", "-"): text
        for name, text in headers.items()
    }
    return Record("documents.submitted.v1", 2, 7, b"acme/doc", value, given_headers, NOW)


def nested(field: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return bytes([field << 3 | 2, len(body)]) + body


def with_unknown_in_repeated() -> tuple[type[Message], bytes]:
    number = DocumentChunked.DESCRIPTOR.fields_by_name["chunks"].number
    return DocumentChunked, nested(number, UNKNOWN)


def with_unknown_in_map_value() -> tuple[type[Message], bytes]:
    entry = nested(1, b"name") + nested(2, UNKNOWN)
    return struct_pb2.Struct, nested(1, entry)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (DocumentSubmitted, UNKNOWN),
        (DocumentSubmitted, DocumentSubmitted(document_id="a").SerializeToString() + UNKNOWN),
        with_unknown_in_repeated(),
        with_unknown_in_map_value(),
    ],
    ids=["top", "beside known", "repeated", "map value"],
)
def test_unknown_fields_are_seen_at_every_level(kind: type[Message], body: bytes) -> None:
    assert has_unknown_fields(kind.FromString(body))


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_a_message_of_the_contract_has_no_unknown_fields(topic: Any) -> None:
    assert not has_unknown_fields(topic.message())
    assert not has_unknown_fields(filled(topic.message()))


def filled(message: Message) -> Message:
    """Every field set once, to a depth that no contract exceeds."""
    for field in message.DESCRIPTOR.fields:
        if field.type == field.TYPE_MESSAGE and field.is_repeated:
            if not field.message_type.GetOptions().map_entry:
                filled(getattr(message, field.name).add())
        elif field.type == field.TYPE_MESSAGE:
            filled(getattr(message, field.name))
            getattr(message, field.name).SetInParent()
        elif field.type == field.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, "text")
    return message


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (b"acme/doc", ("acme", "doc")),
        (b"acme/folder/doc", ("acme", "folder/doc")),
        ("acme/größe".encode(), ("acme", "größe")),
    ],
)
def test_a_key_is_tenant_and_aggregate(key: bytes, parts: tuple[str, str]) -> None:
    assert split_key(key) == parts


@pytest.mark.parametrize(
    "key", [b"", b"/", b"acme", b"acme/", b"/doc", b"Acme/doc", b"a b/doc", b"acme/\xff",
            b"acme/" + b"x" * 1020, b"a" * 64 + b"/doc"]
)  # fmt: skip
def test_other_keys_are_refused(key: bytes) -> None:
    with pytest.raises(Fault) as caught:
        split_key(key)
    assert caught.value.reason is Reason.SCHEMA_INVALID


def test_an_event_without_an_id_is_known_by_its_place() -> None:
    assert record().event_id == "documents.submitted.v1/2/7"
    check_attributes(DOCUMENTS_SUBMITTED, record())


@pytest.mark.parametrize("text", ["x" * 201, "a b", "a\nb", "\x00", "naïve", "�"])
def test_ids_that_no_store_could_hold_are_refused(text: str) -> None:
    with pytest.raises(Fault):
        check_attributes(DOCUMENTS_SUBMITTED, record(ce_id=text))


@pytest.mark.parametrize(("text", "number"), [
    ("0", 0), ("3", 3), ("-1", 0), ("x", 0), ("²", 0), ("9" * 30, 0), ("", 0),
])  # fmt: skip
def test_a_replay_number_is_a_small_number_or_none(text: str, number: int) -> None:
    assert record(tidemill_replay=text).replay == number


def test_our_own_headers_pass_our_own_checks() -> None:
    headers = event_headers(DOCUMENTS_SUBMITTED, "id", "test", NOW)
    assert headers["ce_time"] == "2030-01-01T00:00:00Z"
    whole = Record("documents.submitted.v1", 0, 0, b"acme/doc", b"", headers, NOW)
    check_attributes(DOCUMENTS_SUBMITTED, whole)
    assert decode(DOCUMENTS_SUBMITTED, whole) == DocumentSubmitted()


def test_headers_of_any_bytes_become_text() -> None:
    assert header_text([("a", b"\xff"), ("b", None), ("c", b"x")]) == {"a": "�", "b": "", "c": "x"}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["application/protobuf", "application/json", "x"]))
def test_any_bytes_are_an_event_or_a_schema_fault(body: bytes, content_type: str) -> None:
    refused_or_decoded(body, content_type)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("documentId"), inner),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["documentId", "content", "mediaType", "x"]), JSON_VALUES))
def test_any_json_is_an_event_or_a_schema_fault(body: dict[str, Any]) -> None:
    refused_or_decoded(json.dumps(body).encode(), "application/json")


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"documentId": "\\ud800"}', b'{"documentId": 1e999}', b"null", b"[]",
     b'{"documentId": "a", "documentId": "b"}', b""],
)  # fmt: skip
def test_odd_json_is_refused(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        decode(DOCUMENTS_SUBMITTED, record(body, content_type="application/json"))
    assert caught.value.reason is Reason.SCHEMA_INVALID


def refused_or_decoded(body: bytes, content_type: str) -> None:
    try:
        decode(DOCUMENTS_SUBMITTED, record(body, content_type=content_type))
    except Fault as fault:
        reason = fault.reason
    else:
        reason = Reason.SCHEMA_INVALID
    assert reason is Reason.SCHEMA_INVALID


def test_an_unknown_enum_value_is_kept_not_refused() -> None:
    """proto3 enums are open: a newer producer's value must not dead-letter its events."""
    assert not has_unknown_fields(AlertRaised(kind=9_999))


INTERNAL = [topic for topic in CATALOGUE if topic.write_scope is None]
INGRESS = [topic for topic in CATALOGUE if topic.write_scope is not None]


@pytest.mark.parametrize("topic", INTERNAL, ids=lambda topic: topic.name)
def test_a_newer_service_of_the_mesh_may_add_fields(topic: Any) -> None:
    """During a rolling upgrade old consumers meet them; they keep what they know."""
    known = filled(topic.message())
    body = known.SerializeToString() + UNKNOWN
    message = decode(topic, record(body))
    assert message.SerializeToString() == body
    text = json.loads(json_format.MessageToJson(known)) | {"addedLater": {"deep": [1]}}
    assert decode(topic, record(json.dumps(text).encode(), content_type="application/json"))


@pytest.mark.parametrize("topic", INGRESS, ids=lambda topic: topic.name)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [(UNKNOWN, "application/protobuf"), (b'{"addedLater": 1}', "application/json")],
)
def test_an_outsider_may_not(topic: Any, body: bytes, content_type: str) -> None:
    with pytest.raises(Fault) as caught:
        decode(topic, record(body, content_type=content_type))
    assert caught.value.reason is Reason.SCHEMA_INVALID


def test_fields_and_values_added_inside_a_message_pass_too() -> None:
    kind, body = with_unknown_in_repeated()
    assert decode(DOCUMENTS_CHUNKED, record(body)) == kind.FromString(body)
    alert = decode(ALERTS_RAISED, record(AlertRaised(kind=9_999, alert_id="a").SerializeToString()))
    assert (alert.kind, alert.alert_id) == (9_999, "a")
    named = b'{"kind": "ALERT_KIND_ADDED_LATER", "alertId": "a"}'
    alert = decode(ALERTS_RAISED, record(named, content_type="application/json"))
    assert (alert.kind, alert.alert_id) == (0, "a")


@pytest.mark.parametrize("body", [b"\x0a\xff", b"\xff"])
def test_broken_bytes_are_refused_on_the_meshs_own_topics(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        decode(DOCUMENTS_CHUNKED, record(body))
    assert caught.value.reason is Reason.SCHEMA_INVALID
