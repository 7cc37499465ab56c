"""The one interceptor: identity, scope, size, deadline, trace and errors of every RPC."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, use_span

from tidemill.api.common.v1 import Access
from tidemill.clock import Clock
from tidemill.faults import Fault, Reason
from tidemill.rpc.access import access_of
from tidemill.rpc.caller import set_caller
from tidemill.rpc.errors import to_status
from tidemill.security.tokens import RPC_AUDIENCE, Caller, Verifier
from tidemill.telemetry.logging import stack_of
from tidemill.telemetry.tracing import context_of

log = structlog.get_logger()

# Health and reflection carry nothing of a tenant.
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each handler so that no servicer sees an unverified or oversized call."""

    def __init__(self, verifier: Verifier, tracer: Tracer, meter: Meter, clock: Clock) -> None:
        self._verifier = verifier
        self._tracer = tracer
        self._clock = clock
        self._seconds = meter.create_histogram("rpc.server.duration", unit="s")

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        rule = access_of(details.method)
        metadata = {k: v for k, v in details.invocation_metadata or () if isinstance(v, str)}
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, details.method, rule, metadata),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_stream_rpc_method_handler(
            self._stream(handler.unary_stream, details.method, rule, metadata),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _admit(self, rule: Access | None, metadata: dict[str, str], request: Message) -> Caller:
        if rule is None:
            raise Fault(Reason.SCOPE_MISSING, detail="undeclared")
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Fault(Reason.TOKEN_MISSING)
        caller = self._verifier.verify(token, RPC_AUDIENCE)
        caller.require(rule.scope)
        if request.ByteSize() > rule.max_request_bytes:
            raise Fault(Reason.REQUEST_TOO_LARGE, limit=str(rule.max_request_bytes))
        set_caller(caller)
        return caller

    def _unary(
        self, method: Any, name: str, rule: Access | None, metadata: dict[str, str]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def serve(request: Any, context: Any) -> Any:
            async with self._served(name, rule, metadata, request, context):
                return await method(request, context)

        return serve

    def _stream(
        self, method: Any, name: str, rule: Access | None, metadata: dict[str, str]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._served(name, rule, metadata, request, context):
                responses = method(request, context)
                try:
                    async for response in responses:
                        yield response
                finally:
                    # The servicer's own clean-up runs now, not when the collector comes.
                    await responses.aclose()

        return serve

    @asynccontextmanager
    async def _served(
        self,
        name: str,
        rule: Access | None,
        metadata: dict[str, str],
        request: Message,
        context: Any,
    ) -> AsyncIterator[None]:
        started, outcome = self._clock.monotonic(), "OK"
        span = self._tracer.start_span(
            name.lstrip("/"),
            context=context_of(metadata.get("traceparent", "")),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": name.rpartition("/")[2]},
        )
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                caller = self._admit(rule, metadata, request)
                span.set_attribute("tidemill.tenant", caller.tenant_id)
                async with asyncio.timeout(seconds_left(rule, context)):
                    yield
        except asyncio.CancelledError:
            outcome = "CANCELLED"
            raise
        except Exception as error:
            fault = fault_of(error, name)
            outcome = fault.reason.value
            span.set_status(Status(StatusCode.ERROR, outcome))
            await context.abort_with_status(to_status(fault))
        finally:
            span.end()
            elapsed = self._clock.monotonic() - started
            self._seconds.record(elapsed, {"rpc_method": name.rpartition("/")[2], "code": outcome})


def seconds_left(rule: Access | None, context: Any) -> float:
    """The caller's deadline, and never more than the contract allows."""
    limit = rule.max_duration_ms / 1000 if rule else 1.0
    remaining = context.time_remaining()
    return limit if remaining is None else min(limit, remaining)


def fault_of(error: Exception, method: str) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, TimeoutError):
        return Fault(Reason.DEADLINE_EXCEEDED)
    log.error("rpc_failed", method=method, error_type=type(error).__name__, stack=stack_of(error))
    return Fault(Reason.INTERNAL)
