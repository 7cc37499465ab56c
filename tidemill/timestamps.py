"""Times of messages that others wrote: any number fits a Timestamp, not every one is a time."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tidemill.faults import Fault, Reason


def utc_time(message: Message, field: str) -> datetime:
    """The time in a Timestamp field, in UTC; Fault(SCHEMA_INVALID) with the field's name when it
    lies outside the years 1 to 9999."""
    stamp: Timestamp = getattr(message, field)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Fault(Reason.SCHEMA_INVALID, field=field) from None


def time_by(message: Message, field: str, received: datetime) -> datetime:
    """The time in a Timestamp field that may be empty, no later than the broker took the event: a
    clock that runs ahead outranks nobody. Faults as utc_time's."""
    return min(utc_time(message, field), received) if message.HasField(field) else received


def clear_impossible_times(message: Message) -> dict[str, str]:
    """Takes the times that are none out of the message, at any depth; their values by field."""
    found = list(_impossible_times(message))
    values = {}
    for holder, field in found:
        stamp = getattr(holder, field)
        values[field] = f"seconds {stamp.seconds}, nanos {stamp.nanos}"
        holder.ClearField(field)
    return values


def _impossible_times(message: Message) -> Iterator[tuple[Message, str]]:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.message_type is not Timestamp.DESCRIPTOR:
            for each in value if field.is_repeated else [value]:
                yield from _impossible_times(each)
        elif not field.is_repeated and not _is_possible(message, field.name):
            yield message, field.name


def _is_possible(message: Any, field: str) -> bool:
    try:
        utc_time(message, field)
    except Fault:
        return False
    return True
