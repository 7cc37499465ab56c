"""Takes tagged fields that this release does not know out of a request, as every broker must.

kio refuses them. Clients may send those of a later release, and some send one by mistake
(librdkafka 2.16 in Metadata 9), so a request that kio refuses gets a second look here.
"""

import struct
from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

Cuts = list[tuple[int, int, bytes]]
Walk = Callable[[bytes, int, Cuts], int]

_SIZES = {
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
    **dict.fromkeys(("int16", "uint16", "error_code"), 2),
    **dict.fromkeys(("int32", "uint32", "timedelta_i32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "timedelta_i64", "datetime_i64"), 8),
    "uuid": 16,
}
_LONGEST_SHIFT = 28
_IS_NULL = 0xFF


def without_unknown_tags(schema: type, frame: bytes, position: int) -> bytes:
    """The frame, cleaned; raises IndexError if it does not follow the flexible schema."""
    cuts: Cuts = []
    _walk_of(schema)(frame, position, cuts)
    parts, begin = [], 0
    for start, end, instead in cuts:
        parts += [frame[begin:start], instead]
        begin = end
    return b"".join([*parts, frame[begin:]])


def read_unsigned_varint(frame: bytes, position: int) -> tuple[int, int]:
    """(value, position behind it); raises IndexError at the end, and for more than 32 bits."""
    value = 0
    for shift in range(0, _LONGEST_SHIFT + 1, 7):
        byte = frame[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise IndexError


@cache
def _walk_of(entity: type) -> Walk:
    members = [_field_walk(each) for each in fields(entity) if "tag" not in each.metadata]
    known = frozenset(each.metadata["tag"] for each in fields(entity) if "tag" in each.metadata)

    def walk(frame: bytes, position: int, cuts: Cuts) -> int:
        for member in members:
            position = member(frame, position, cuts)
        return _walk_tags(frame, position, cuts, known)

    return walk


def _field_walk(field: Field[Any]) -> Walk:
    options = [kind for kind in get_args(field.type) if kind is not NoneType]
    is_nullable = NoneType in get_args(field.type)
    kind: Any = options[0] if is_nullable else field.type
    if get_origin(kind) is tuple:
        return _array_walk(_item_walk(get_args(kind)[0], field))
    item = _item_walk(kind, field)
    return _nullable_walk(item) if is_nullable and is_dataclass(kind) else item


def _item_walk(kind: Any, field: Field[Any]) -> Walk:
    if isinstance(kind, type) and is_dataclass(kind):
        return _walk_of(kind)
    size = _SIZES.get(field.metadata["kafka_type"])
    return _walk_text if size is None else lambda frame, at, _: _checked(frame, at + size)


def _array_walk(item: Walk) -> Walk:
    def walk(frame: bytes, position: int, cuts: Cuts) -> int:
        count, position = read_unsigned_varint(frame, position)
        for _ in range(count - 1):
            position = item(frame, position, cuts)
        return position

    return walk


def _nullable_walk(item: Walk) -> Walk:
    def walk(frame: bytes, position: int, cuts: Cuts) -> int:
        is_null = frame[position] == _IS_NULL
        return position + 1 if is_null else item(frame, position + 1, cuts)

    return walk


def _walk_text(frame: bytes, position: int, cuts: Cuts) -> int:
    length, position = read_unsigned_varint(frame, position)
    return _checked(frame, position + max(length - 1, 0))


def _walk_tags(frame: bytes, start: int, cuts: Cuts, known: frozenset[int]) -> int:
    count, position = read_unsigned_varint(frame, start)
    kept: list[bytes] = []
    for _ in range(count):
        begin = position
        tag, position = read_unsigned_varint(frame, position)
        length, position = read_unsigned_varint(frame, position)
        position = _checked(frame, position + length)
        if tag in known:
            kept.append(frame[begin:position])
    if len(kept) != count:
        cuts.append((start, position, struct.pack(">B", len(kept)) + b"".join(kept)))
    return position


def _checked(frame: bytes, position: int) -> int:
    if position > len(frame):
        raise IndexError
    return position
