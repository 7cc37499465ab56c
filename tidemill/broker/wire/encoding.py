"""Encodes response fields (plain dicts) by kio's schemas.

kio decodes in native code but encodes in Python from one class per version; a response built
from plain values serves all versions, and record bytes pass through without a copy.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin
from uuid import UUID

Fields = Mapping[str, Any]
Chunks = list[bytes | bytearray | memoryview]
Writer = Callable[[Chunks, Any], None]

_NO_UUID = bytes(16)
_FIXED = {
    "int8": ">b",
    "int16": ">h",
    "int32": ">i",
    "int64": ">q",
    "uint8": ">B",
    "uint16": ">H",
    "uint32": ">I",
    "uint64": ">Q",
    "bool": ">?",
    "float64": ">d",
    "error_code": ">h",
    "timedelta_i32": ">i",
    "timedelta_i64": ">q",
}


@cache
def writer_for(entity: type) -> Writer:
    """The writer of one schema class; takes a mapping, ignores keys this version lacks."""
    flexible = bool(getattr(entity, "__flexible__", False))
    members = [
        (field.name, _field_writer(field, flexible), _default(field))
        for field in fields(entity)
        if "tag" not in field.metadata
    ]

    def write(out: Chunks, values: Fields) -> None:
        for name, writer, default in members:
            writer(out, values.get(name, default))
        if flexible:
            out.append(b"\x00")

    return write


def unsigned_varint(value: int) -> bytes:
    """Kafka's unsigned varint, 7 bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field_writer(field: Field[Any], flexible: bool) -> Writer:
    kind = _without_none(field.type)
    if get_origin(kind) is tuple:
        item = _without_none(get_args(kind)[0])
        return _array_writer(_item_writer(item, field, flexible), flexible)
    writer = _item_writer(kind, field, flexible)
    return _nullable_writer(writer) if is_dataclass(kind) and _is_nullable(field.type) else writer


def _item_writer(kind: Any, field: Field[Any], flexible: bool) -> Writer:
    if is_dataclass(kind) and isinstance(kind, type):
        return writer_for(kind)
    return _primitive_writer(field.metadata["kafka_type"], flexible)


def _primitive_writer(kafka_type: str, flexible: bool) -> Writer:
    if kafka_type in _FIXED:
        pack = struct.Struct(_FIXED[kafka_type]).pack
        return lambda out, value: out.append(pack(value))
    if kafka_type == "datetime_i64":
        pack_time = struct.Struct(">q").pack
        return lambda out, value: out.append(pack_time(-1 if value is None else value))
    if kafka_type == "uuid":
        return _write_uuid
    if flexible:
        return _write_compact
    return _write_string if kafka_type == "string" else _write_bytes


def _array_writer(item: Writer, flexible: bool) -> Writer:
    def write(out: Chunks, values: Sequence[Any] | None) -> None:
        count = -1 if values is None else len(values)
        out.append(unsigned_varint(count + 1) if flexible else struct.pack(">i", count))
        for value in values or ():
            item(out, value)

    return write


def _nullable_writer(item: Writer) -> Writer:
    def write(out: Chunks, value: Any) -> None:
        out.append(b"\xff" if value is None else b"\x01")
        if value is not None:
            item(out, value)

    return write


def _write_compact(out: Chunks, value: str | bytes | memoryview | None) -> None:
    if value is None:
        out.append(b"\x00")
        return
    data = value.encode() if isinstance(value, str) else value
    out.append(unsigned_varint(len(data) + 1))
    out.append(data)


def _write_string(out: Chunks, value: str | None) -> None:
    if value is None:
        out.append(b"\xff\xff")
        return
    data = value.encode()
    out.append(struct.pack(">h", len(data)) + data)


def _write_bytes(out: Chunks, value: bytes | memoryview | None) -> None:
    if value is None:
        out.append(b"\xff\xff\xff\xff")
        return
    out.append(struct.pack(">i", len(value)))
    out.append(value)


def _write_uuid(out: Chunks, value: UUID | None) -> None:
    out.append(_NO_UUID if value is None else value.bytes)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (UnionType, Union):
        return kind
    return next(option for option in get_args(kind) if option is not NoneType)


def _is_nullable(kind: Any) -> bool:
    return get_origin(kind) in (UnionType, Union) and NoneType in get_args(kind)


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        is_duration = isinstance(field.default, timedelta)
        return field.default // timedelta(milliseconds=1) if is_duration else field.default
    if _is_nullable(field.type):
        return None
    if get_origin(field.type) is tuple:
        return ()
    kafka_type = field.metadata.get("kafka_type", "")
    if kafka_type in _FIXED or kafka_type == "datetime_i64":
        return 0
    return "" if kafka_type == "string" else b""
