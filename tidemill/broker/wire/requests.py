"""Requests off the wire and responses onto it."""

import struct
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader
from kio.serial.errors import SerialError

from tidemill.broker.errors import MalformedRequest
from tidemill.broker.wire.encoding import Chunks, Fields, Writer, writer_for
from tidemill.broker.wire.tags import read_unsigned_varint, without_unknown_tags
from tidemill.broker.wire.versions import Api

_HEADER = struct.Struct(">hhih")
_FRAME = struct.Struct(">ii")
_NOT_DECODABLE = (SerialError, KeyError, ValueError, TypeError, OverflowError, IndexError)


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """What every request begins with; `body_at` is where its own fields begin."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str
    body_at: int


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded request. `body` is kio's class for this version of the API."""

    api: Api
    version: int
    client_id: str
    client_host: str
    body: Any


def read_header(frame: bytes) -> RequestHeader:
    """Reads a request header.

    Raises MalformedRequest when the frame is too short or its client id is no text.
    """
    if len(frame) < _HEADER.size:
        raise MalformedRequest("HEADER_TOO_SHORT")
    api_key, version, correlation_id, length = _HEADER.unpack_from(frame)
    end = _HEADER.size + max(length, 0)
    if end > len(frame):
        raise MalformedRequest("HEADER_TOO_SHORT")
    try:
        client_id = frame[_HEADER.size : end].decode()
    except UnicodeDecodeError:
        raise MalformedRequest("CLIENT_ID_NOT_UTF8") from None
    return RequestHeader(api_key, version, correlation_id, client_id, end)


def read_body(frame: bytes, header: RequestHeader) -> Any:
    """Decodes the fields of a request whose API and version are spoken.

    Raises MalformedRequest when the bytes do not follow the schema.
    """
    flexible, read = _request_reader(header.api_key, header.version)
    position = header.body_at
    if flexible:
        position = _skip_tags(frame, position)
    try:
        body, _ = read(frame, position)
    except _NOT_DECODABLE:
        if not flexible:
            raise MalformedRequest("BODY_NOT_DECODABLE") from None
        body = _read_cleaned(frame, header, position)
    return body


def encode_response(api: Api, version: int, correlation_id: int, values: Fields) -> bytes:
    """A whole response frame, length prefix included."""
    flexible, write = _response_writer(api, version)
    chunks: Chunks = []
    # ApiVersions is answered before the client knows which header the broker would use.
    if flexible and api is not Api.API_VERSIONS:
        chunks.append(b"\x00")
    write(chunks, values)
    size = 4 + sum(map(len, chunks))
    return b"".join((_FRAME.pack(size, correlation_id), *chunks))


def milliseconds(duration: timedelta) -> int:
    """kio reads durations as timedelta; the broker counts in milliseconds."""
    return duration // timedelta(milliseconds=1)


def _read_cleaned(frame: bytes, header: RequestHeader, position: int) -> Any:
    schema = load_request_schema(header.api_key, header.version)
    try:
        cleaned = without_unknown_tags(schema, frame, position)
        body, _ = entity_reader(schema)(cleaned, position)
    except _NOT_DECODABLE:
        raise MalformedRequest("BODY_NOT_DECODABLE") from None
    return body


@cache
def _request_reader(api_key: int, version: int) -> tuple[bool, Any]:
    schema = load_request_schema(api_key, version)
    return schema.__flexible__, entity_reader(schema)


@cache
def _response_writer(api: Api, version: int) -> tuple[bool, Writer]:
    schema = load_response_schema(api.value, version)
    return schema.__flexible__, writer_for(schema)


def _skip_tags(frame: bytes, position: int) -> int:
    try:
        count, position = read_unsigned_varint(frame, position)
        for _ in range(count):
            _, position = read_unsigned_varint(frame, position)
            length, position = read_unsigned_varint(frame, position)
            position += length
    except IndexError:
        raise MalformedRequest("HEADER_TAGS_BROKEN") from None
    return position
