"""Requests in any version, written and read by kio: plain values in, kio's answer out."""

import asyncio
import io
import struct
import time
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from types import NoneType
from typing import Any, get_args, get_origin
from uuid import UUID

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

NO_ID = UUID(int=0)
NOT_LEADER, UNKNOWN_TOPIC = 6, 3


class Wire:
    """One connection that asks what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    @classmethod
    async def open(cls, kafka: Any) -> "Wire":
        """Connects; the connection is closed when the test ends."""
        host, port = kafka.bootstrap.rsplit(":", 1)
        wire = cls(*await asyncio.open_connection(host, int(port)))
        kafka.at_end(wire.close)
        return wire

    async def close(self) -> None:
        self._writer.close()

    async def ask(self, api_key: int, version: int, **values: Any) -> Any:
        """The answer; raises IncompleteReadError if the connection is closed instead."""
        schema = load_request_schema(api_key, version)
        body = io.BytesIO()
        entity_writer(schema)(body, made(schema, values))
        frame = await self.ask_bytes(api_key, version, body.getvalue(), schema.__flexible__)
        answer = load_response_schema(api_key, version)
        is_tagged = answer.__header_schema__.__flexible__
        read, _ = entity_reader(answer)(frame, 5 if is_tagged else 4)
        return read

    async def ask_bytes(self, api_key: int, version: int, body: bytes, flexible: bool) -> bytes:
        """The frame of the answer to a body that the test has written itself."""
        self._number += 1
        head = struct.pack(">hhih", api_key, version, self._number, 4) + b"wire"
        request = head + (b"\x00" if flexible else b"") + body
        self._writer.write(struct.pack(">i", len(request)) + request)
        async with asyncio.timeout(20):
            (length,) = struct.unpack(">i", await self._reader.readexactly(4))
            return await self._reader.readexactly(length)

    async def produce(self, topic: str, batch: bytes, *, version: int = 8) -> tuple[int, int]:
        """(error code, base offset); a topic just made may have no leader for a moment."""
        data = [{"name": topic, "partition_data": [{"index": 0, "records": batch}]}]
        async with asyncio.timeout(20):
            while True:
                answer = await self.ask(0, version, acks=-1, timeout=5_000, topic_data=data)
                row = answer.responses[0].partition_responses[0]
                if row.error_code not in (NOT_LEADER, UNKNOWN_TOPIC):
                    return int(row.error_code), int(row.base_offset)
                await asyncio.sleep(0.05)


def batch(*values: bytes, key: bytes | None = b"key", **header: int) -> bytearray:
    """One batch of plain records; `header` names `producer_id`, `epoch`, `sequence`, `time`."""
    producer_id = header.get("producer_id", -1)
    epoch, sequence = header.get("epoch", -1), header.get("sequence", -1)
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, epoch, sequence, 10_000_000)
    at = header.get("time", int(time.time() * 1000))
    for index, value in enumerate(values):
        builder.append(index, at, key, value, [])
    return bytearray(builder.build())


def made(kind: Any, value: Any) -> Any:
    """A value of a kio type from a plain one; what is not named gets a default."""
    if get_origin(kind) is tuple:
        return tuple(made(get_args(kind)[0], each) for each in value)
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**{f.name: _field(f, value) for f in fields(kind) if _is_given(f, value)})
    return value


def _is_given(field: Any, values: dict[str, Any]) -> bool:
    return field.name in values or field.default is MISSING


def _field(field: Any, values: dict[str, Any]) -> Any:
    options = [kind for kind in get_args(field.type) if kind is not NoneType]
    is_nullable = NoneType in get_args(field.type)
    kind = options[0] if is_nullable else field.type
    if field.name not in values:
        return None if is_nullable else _blank(kind, field.metadata.get("kafka_type", ""))
    value = values[field.name]
    if field.metadata.get("kafka_type", "").startswith("timedelta"):
        return timedelta(milliseconds=value)
    return None if value is None else made(kind, value)


def _blank(kind: Any, kafka_type: str) -> Any:
    if get_origin(kind) is tuple:
        return ()
    if kafka_type.startswith("timedelta"):
        return timedelta()
    blanks = {"string": "", "bool": False, "uuid": None, "bytes": b"", "records": b""}
    return blanks.get(kafka_type, 0)
