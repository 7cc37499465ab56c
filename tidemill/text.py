"""What no string of a message may hold."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

NUL = "\0"


def field_with_nul(message: Message, body: bytes) -> str:
    """Name of a text field that holds a NUL character, which PostgreSQL cannot store; empty when
    none does. body: the message as it came, looked at first: most have no zero byte at all."""
    if b"\0" not in body and b"\\u0000" not in body:
        return ""
    return next(_fields_with_nul(message), "")


def _fields_with_nul(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        for each in _values(field, value):
            if isinstance(each, str) and NUL in each:
                yield field.name
            elif isinstance(each, Message):
                yield from _fields_with_nul(each)


def _values(field: Any, value: Any) -> Iterator[Any]:
    if not field.is_repeated:
        yield value
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from value.keys()
        yield from value.values()
    else:
        yield from value
