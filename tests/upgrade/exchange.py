"""Events of every topic with every field set, written or read by the release that runs this file:

python exchange.py write              one JSON line for each topic: topic, headers and value
python exchange.py read <events       for each line "ok", or why a consumer would refuse the event
"""

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tidemill.bus.envelope import Record, check_attributes, decode, event_headers
from tidemill.faults import Fault
from tidemill.topics import CATALOGUE, Topic

NOW = datetime(2026, 12, 1, tzinfo=UTC)
UNKNOWN = "unknown topic"


def write() -> Iterator[str]:
    for topic in CATALOGUE:
        for message in filled_each_way(topic.message):
            headers = event_headers(topic, "evt", "upgrade", NOW)
            value = message.SerializeToString(deterministic=True).hex()
            yield json.dumps({"topic": topic.name, "headers": headers, "value": value})


def read(lines: Iterable[str]) -> Iterator[str]:
    topics = {topic.name: topic for topic in CATALOGUE}
    for line in lines:
        event = json.loads(line)
        topic = topics.get(event["topic"])
        yield UNKNOWN if topic is None else verdict(topic, event)


def verdict(topic: Topic[Any], event: dict[str, Any]) -> str:
    record = Record(topic.name, 0, 0, b"t/a", bytes.fromhex(event["value"]), event["headers"], NOW)
    try:
        check_attributes(topic, record)
        decode(topic, record)
    except Fault as fault:
        return f"{fault.reason.value} {dict(fault.metadata)}"
    return "ok"


def filled_each_way(kind: type[Message]) -> Iterator[Message]:
    """With every field set; once for each member of a oneof."""
    oneofs = [o for o in kind.DESCRIPTOR.oneofs if len(o.fields) > 1]
    ways = [field.name for oneof in oneofs for field in oneof.fields] or [""]
    for way in ways:
        message = kind()
        fill(message, 3)
        if way:
            field = kind.DESCRIPTOR.fields_by_name[way]
            set_field(message, field, 3)
        yield message


def fill(message: Message, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        set_field(message, field, depth)


def set_field(message: Message, field: FieldDescriptor, depth: int) -> None:
    many = field.is_repeated
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry or not depth:
            return
        held = getattr(message, field.name)
        inner = held.add() if many else held
        inner.SetInParent()
        fill(inner, depth - 1)
        return
    value = value_of(field)
    if many:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def value_of(field: FieldDescriptor) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return b"\1" if field.type == FieldDescriptor.TYPE_BYTES else "x"
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            # The newest one.
            return max(value.number for value in field.enum_type.values)
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return 0.5
    return 1


if __name__ == "__main__":
    found = write() if sys.argv[1] == "write" else read(sys.stdin)
    sys.stdout.writelines(f"{line}\n" for line in found)
