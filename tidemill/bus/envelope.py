"""CloudEvents in Kafka headers (binary mode), with trace context and, from outside, a token."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from tidemill.faults import Fault, Reason
from tidemill.security.tokens import TENANT_PATTERN
from tidemill.text import field_with_nul
from tidemill.topics import M, Topic

PROTOBUF = "application/protobuf"
JSON = "application/json"

EVENT_ID = "ce_id"
EVENT_SOURCE = "ce_source"
EVENT_TYPE = "ce_type"
TOKEN = "tidemill-token"  # noqa: S105 - a header's name
TRACEPARENT = "traceparent"
SUBJECT = "tidemill-subject"
"""Of a fact that followed from a submission or call: the subject of the token it came with."""
CONTENT_TYPE = "content-type"
CONSUMER = "tidemill-consumer"
REPLAY = "tidemill-replay"
# Of a dead letter: its id, why it was dead-lettered, and the record that it was.
DEAD_LETTER_ID = "tidemill-dead-letter-id"
REASON = "tidemill-reason"
DETAIL = "tidemill-detail"
ORIGIN = "tidemill-origin"
ORIGIN_TIME = "tidemill-origin-time"
TOKEN_SUBJECT = "tidemill-token-subject"  # noqa: S105 - a header's name
"""Of a dead letter: the subject of the record's token, which stays behind; empty without one."""

# Visible ASCII: an id is a key in every store and stands in logs.
EVENT_ID_PATTERN = re.compile(r"[\x21-\x7e]{1,200}")
ANY_SOURCE = "*"
"""Source of inbox rows from before sources were kept: such a row stands for every source."""
# A URI reference without the characters that no URI holds.
EVENT_SOURCE_PATTERN = re.compile(r"[\x21-\x7e]{0,200}")
MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class Record:
    """A Kafka record as it was read. value is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, str]
    time: datetime

    @property
    def event_id(self) -> str:
        """The producer's id, or the record's place when the producer gave none."""
        return self.headers.get(EVENT_ID) or self.origin

    @property
    def source(self) -> str:
        """Within which the id is unique; empty when the producer named none."""
        return self.headers.get(EVENT_SOURCE, "")

    @property
    def replay(self) -> int:
        """0 at first, n for the n-th replay of a dead letter."""
        value = self.headers.get(REPLAY, "0")
        return int(value) if value.isdecimal() and len(value) < 9 else 0

    @property
    def origin(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def header_text(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers as text; bytes that are not UTF-8 are replaced, since nothing may depend on them."""
    return {name: (value or b"").decode(errors="replace") for name, value in headers}


def source_of(producer: str) -> str:
    """ce_source of the events of a service of the mesh, or of its own client."""
    return f"tidemill/{producer}"


def event_headers(topic: Topic[M], event_id: str, source: str, moment: datetime) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        EVENT_ID: event_id,
        EVENT_SOURCE: source_of(source),
        EVENT_TYPE: topic.type,
        "ce_time": moment.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        CONTENT_TYPE: PROTOBUF,
    }


def split_key(key: bytes) -> tuple[str, str]:
    """(tenant, aggregate) of a key "tenant/aggregate"; Fault(SCHEMA_INVALID) for another shape."""
    try:
        tenant, _, aggregate = key.decode().partition("/")
    except UnicodeDecodeError as error:
        raise Fault(Reason.SCHEMA_INVALID, field="key") from error
    if len(key) > MAX_KEY_BYTES or not aggregate or not TENANT_PATTERN.fullmatch(tenant):
        raise Fault(Reason.SCHEMA_INVALID, field="key")
    return tenant, aggregate


def check_attributes(topic: Topic[M], record: Record) -> None:
    """Refuse an id that no store could hold, and an event of another type than its topic's."""
    if not EVENT_ID_PATTERN.fullmatch(record.event_id):
        raise Fault(Reason.SCHEMA_INVALID, field=EVENT_ID)
    if not EVENT_SOURCE_PATTERN.fullmatch(record.source) or record.source == ANY_SOURCE:
        raise Fault(Reason.SCHEMA_INVALID, field=EVENT_SOURCE)
    if record.headers.get(EVENT_TYPE, topic.type) != topic.type:
        raise Fault(Reason.SCHEMA_INVALID, field=EVENT_TYPE)


def decode(topic: Topic[M], record: Record, *, fact: bool = False) -> M:
    """The record's message; Fault(SCHEMA_INVALID) for bytes that are none. fact: its owner wrote
    it, though outsiders write to the topic too.

    A field or enum value that the contract does not name: on the mesh's own topics a newer service
    wrote it during a rolling upgrade, and it is kept unread. Where outsiders write, an unknown
    field is refused, since a misspelt one would be dropped silently.
    """
    if record.value is None:
        raise Fault(Reason.SCHEMA_INVALID, field="value")
    message, strict = topic.message(), topic.write_scope is not None and not fact
    content_type = record.headers.get(CONTENT_TYPE, PROTOBUF).partition(";")[0].strip().lower()
    if content_type == JSON:
        decode_json(message, record.value, strict=strict)
    elif content_type == PROTOBUF:
        decode_protobuf(message, record.value, strict=strict)
    else:
        raise Fault(Reason.SCHEMA_INVALID, field=CONTENT_TYPE)
    if field := field_with_nul(message, record.value):
        raise Fault(Reason.SCHEMA_INVALID, field=field)
    return message


def decode_json(message: Message, value: bytes, *, strict: bool) -> None:
    # The parser takes an empty list for an empty message.
    if not value.lstrip().startswith(b"{"):
        raise Fault(Reason.SCHEMA_INVALID, field="value")
    try:
        json_format.Parse(value, message, ignore_unknown_fields=not strict)
    except Exception as error:  # whatever a parser says about a stranger's bytes, they are bad
        raise Fault(Reason.SCHEMA_INVALID, field="value") from error


def decode_protobuf(message: Message, value: bytes, *, strict: bool) -> None:
    try:
        message.ParseFromString(value)
    except DecodeError as error:
        raise Fault(Reason.SCHEMA_INVALID, field="value") from error
    if strict and has_unknown_fields(message):
        raise Fault(Reason.SCHEMA_INVALID, field="unknown")


def has_unknown_fields(message: Message) -> bool:
    """True when any level of the message holds fields that the contract does not name."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return copy.ByteSize() != message.ByteSize()
