"""From a decoded request to its answer, through the fault hooks."""

import asyncio

import structlog
from kio.schema.errors import ErrorCode

from tidemill.broker.faults import Drop, Fault, Faults
from tidemill.broker.handlers.routes import ROUTES
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_log = structlog.get_logger(__name__)


class ConnectionDropped(Exception):
    """A fault says that this connection ends here, after half of `answer` if there is one."""

    def __init__(self, answer: Fields | None = None) -> None:
        super().__init__()
        self.answer = answer


class Dispatcher:
    """Hands requests to their handlers."""

    def __init__(self, node: Node, faults: Faults) -> None:
        self._node = node
        self._faults = faults

    async def answer(self, request: Request) -> Fields | None:
        """The fields of the answer; None if the client wants none.

        Raises ConnectionDropped when a fault hook says so.
        """
        fault = self._faults.take(request)
        if fault is None:
            return await self._handle(request)
        return await self._handle_with(fault, request)

    async def _handle_with(self, fault: Fault, request: Request) -> Fields | None:
        answer = await self._handle(request) if fault.is_applied else None
        if fault.delay_seconds:
            await asyncio.sleep(fault.delay_seconds)
        if fault.drop is Drop.BEFORE:
            raise ConnectionDropped
        if fault.error is not None:
            return ROUTES[request.api].refuse(request, fault.error)
        if not fault.is_applied:
            answer = await self._handle(request)
        if fault.drop is not None:
            raise ConnectionDropped(answer if fault.drop is Drop.HALFWAY else None)
        return answer

    async def _handle(self, request: Request) -> Fields | None:
        route = ROUTES[request.api]
        try:
            return await route.handle(self._node, request)
        except Exception:
            # A bug must not look like a lost connection: clients would retry it for ever.
            _log.exception("request_failed", api=request.api.name, version=request.version)
            return route.refuse(request, ErrorCode.unknown_server_error)
