"""One client connection: frames in, one request at a time, answers out in order."""

import asyncio
import struct
from typing import Any

import structlog
from kio.schema.errors import ErrorCode

from tidemill.broker.dispatch import ConnectionDropped, Dispatcher
from tidemill.broker.errors import MalformedRequest
from tidemill.broker.handlers.cluster import refuse_api_versions
from tidemill.broker.settings import ConnectionLimits
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import (
    Request,
    RequestHeader,
    encode_response,
    read_body,
    read_header,
)
from tidemill.broker.wire.versions import Api, is_spoken

_LOGGED_CHARS = 64
_LENGTH = struct.Struct(">i")
_log = structlog.get_logger(__name__)


class Connection:
    """Like Apache Kafka, works on one request of a connection at a time.

    That bounds what a client can have in flight, keeps answers in order, and lets a client
    that does not read its answers stop nobody but itself.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dispatcher: Dispatcher,
        limits: ConnectionLimits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._dispatcher = dispatcher
        self._limits = limits
        self._client_host = str(writer.get_extra_info("peername")[0])

    async def run(self) -> None:
        """Serves until either side closes; never raises for what a client does."""
        try:
            while True:
                await self._serve_one()
        except MalformedRequest as malformed:
            _log.warning("connection_refused", reason=malformed.reason, **_named(malformed.asked))
        except (ConnectionDropped, ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self._writer.close()

    async def _serve_one(self) -> None:
        async with asyncio.timeout(self._limits.idle_seconds):
            frame = await self._read_frame()
        header = read_header(frame)
        answer = await self._answer(header, frame)
        if answer is None:
            return
        self._writer.write(answer)
        async with asyncio.timeout(self._limits.idle_seconds):
            await self._writer.drain()

    async def _read_frame(self) -> bytes:
        (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        if not 0 <= length <= self._limits.max_request_bytes:
            raise MalformedRequest("FRAME_TOO_LARGE")
        return await self._reader.readexactly(length)

    async def _answer(self, header: RequestHeader, frame: bytes) -> bytes | None:
        if not is_spoken(header.api_key, header.version):
            return self._refuse_version(header)
        api = Api(header.api_key)
        body = read_body(frame, header)
        request = Request(api, header.version, header.client_id, self._client_host, body)
        try:
            values = await self._dispatcher.answer(request)
        except ConnectionDropped as dropped:
            if dropped.answer is not None:
                whole = _encode(request, header, dropped.answer)
                self._writer.write(whole[: len(whole) // 2])
            raise
        return None if values is None else _encode(request, header, values)

    def _refuse_version(self, header: RequestHeader) -> bytes:
        """Only ApiVersions has a form of answer that every client understands, version 0."""
        if header.api_key != Api.API_VERSIONS:
            raise MalformedRequest("API_OR_VERSION_NOT_SUPPORTED", asked=header)
        request = Request(Api.API_VERSIONS, 0, header.client_id, self._client_host, None)
        values = refuse_api_versions(request, ErrorCode.unsupported_version)
        return _encode(request, header, values)


def _named(header: RequestHeader | None) -> dict[str, Any]:
    if header is None:
        return {}
    client = header.client_id[:_LOGGED_CHARS]
    return {"api_key": header.api_key, "version": header.version, "client_id": client}


def _encode(request: Request, header: RequestHeader, values: Fields) -> bytes:
    return encode_response(request.api, request.version, header.correlation_id, values)
