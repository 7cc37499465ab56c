"""The one interceptor: identity, scope, size, deadline, trace and errors of every RPC."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, use_span

from tidemill.api.common.v1 import Access
from tidemill.clock import Clock
from tidemill.faults import Fault, Reason, callers_time_out, faults_in
from tidemill.rpc.access import access_of
from tidemill.rpc.caller import set_caller
from tidemill.rpc.door import Door
from tidemill.rpc.errors import to_status
from tidemill.security.tokens import RPC_AUDIENCE, Verifier
from tidemill.telemetry import Telemetry, catalogue
from tidemill.telemetry.tracing import context_of
from tidemill.text import field_with_nul

log = structlog.get_logger()

# Health and reflection carry nothing of a tenant.
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
UNDECLARED_SECONDS = 1.0
CALLERS_DEADLINE = "CALLERS_DEADLINE"
"""The label of a call that its caller gave too little time: nothing to wake anybody for."""

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


@dataclass(frozen=True)
class Method:
    """name: "/package.Service/Method". parse: request bytes to message."""

    name: str
    rule: Access | None
    metadata: dict[str, str]
    parse: Callable[[bytes], Any]

    @property
    def label(self) -> str:
        return self.name.rpartition(".")[2]


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each handler so that no servicer sees an unverified or oversized call.

    Requests reach it as bytes: what a stranger sends is parsed after the token and the size.
    """

    def __init__(self, verifier: Verifier, telemetry: Telemetry, clock: Clock) -> None:
        self._verifier = verifier
        self._telemetry = telemetry
        self._clock = clock
        self._door = Door(clock)

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        metadata = {k: v for k, v in details.invocation_metadata or () if isinstance(v, str)}
        rule = access_of(details.method)
        method = Method(details.method, rule, metadata, handler.request_deserializer)
        if handler.unary_unary:
            serve = self._unary(handler.unary_unary, method)
            return grpc.unary_unary_rpc_method_handler(serve, None, handler.response_serializer)
        if handler.unary_stream:
            stream = self._stream(handler.unary_stream, method)
            return grpc.unary_stream_rpc_method_handler(stream, None, handler.response_serializer)
        # The contracts have no client streams; one that comes needs its own limits first.
        return None

    def _admit(self, method: Method, body: bytes) -> Any:
        """The parsed request of a caller who may make it."""
        if method.rule is None:
            raise Fault(Reason.SCOPE_MISSING, detail="undeclared")
        scheme, _, token = method.metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Fault(Reason.TOKEN_MISSING)
        caller = self._verifier.verify(token, RPC_AUDIENCE)
        caller.require(method.rule.scope)
        if len(body) > method.rule.max_request_bytes:
            raise Fault(Reason.REQUEST_TOO_LARGE, limit=str(method.rule.max_request_bytes))
        set_caller(caller)
        try:
            request = method.parse(body)
        except DecodeError as error:
            raise Fault(Reason.SCHEMA_INVALID, field="request") from error
        if field := field_with_nul(request, body):
            raise Fault(Reason.INVALID_ARGUMENT, field=field)
        return request

    def _unary(self, serve: Any, method: Method) -> Callable[[bytes, Any], Awaitable[Any]]:
        async def guarded(body: bytes, context: Any) -> Any:
            async with self._served(method, context):
                return await serve(self._admit(method, body), context)

        return guarded

    def _stream(self, serve: Any, method: Method) -> Callable[[bytes, Any], Awaitable[None]]:
        # Not a generator: one that a cancelled call leaves behind is closed by the collector, late
        # and in another task; here the servicer's clean-up runs before the call ends.
        async def guarded(body: bytes, context: Any) -> None:
            async with self._served(method, context):
                responses = serve(self._admit(method, body), context)
                try:
                    async for response in responses:
                        await context.write(response)
                finally:
                    await responses.aclose()

        return guarded

    @asynccontextmanager
    async def _served(self, method: Method, context: Any) -> AsyncIterator[None]:
        started, outcome = self._clock.monotonic(), "OK"
        if not self._door.enter():
            # Before anything that costs: refusals must not take the time of the work.
            labels = {"method": method.label, "code": Reason.OVERLOADED.value}
            self._telemetry.observe(catalogue.RPC_SECONDS, 0.0, **labels)
            await context.abort_with_status(to_status(self._door.refusal()))
        span, seconds = self._span(method), seconds_left(method.rule, context)
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                async with asyncio.timeout(seconds):
                    yield
        except asyncio.CancelledError:
            outcome = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            outcome = "ABORTED"
            raise
        except Exception as error:
            fault = fault_of(error, method.name)
            if isinstance(error, TimeoutError) and seconds < limit_of(method.rule):
                fault = callers_time_out()
            outcome = CALLERS_DEADLINE if fault.callers_time else fault.reason.value
            span.set_status(Status(StatusCode.ERROR, outcome))
            await context.abort_with_status(to_status(fault))
        finally:
            self._door.leave()
            span.end()
            elapsed = self._clock.monotonic() - started
            self._telemetry.observe(
                catalogue.RPC_SECONDS, elapsed, method=method.label, code=outcome
            )

    def _span(self, method: Method) -> Span:
        return self._telemetry.tracer.start_span(
            method.name.lstrip("/"),
            context=context_of(method.metadata.get("traceparent", "")),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method.label},
        )


def seconds_left(rule: Access | None, context: Any) -> float:
    """The caller's deadline, and never more than the contract allows."""
    remaining = context.time_remaining()
    return limit_of(rule) if remaining is None else min(limit_of(rule), remaining)


def limit_of(rule: Access | None) -> float:
    """Seconds that the contract allows."""
    return rule.max_duration_ms / 1000 if rule else UNDECLARED_SECONDS


def fault_of(error: Exception, method: str) -> Fault:
    """What the caller may know of an error."""
    faults = list(faults_in(error))
    if faults:
        return faults[0]
    if isinstance(error, TimeoutError):
        return Fault(Reason.DEADLINE_EXCEEDED)
    log.error("rpc_failed", method=method, exc_info=error)
    return Fault(Reason.INTERNAL)
