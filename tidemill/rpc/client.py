"""Calls with a deadline, the caller's token and the trace; errors come back as faults."""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from tidemill.rpc.errors import from_error
from tidemill.settings import MeshSettings
from tidemill.telemetry.tracing import current_traceparent

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)

MAX_BYTES = 24 * 1024 * 1024
OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.max_send_message_length", MAX_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A call pings too. What its other side, gone without a word, does not answer within this time
    # ends the connection; by default that is a minute, and keepalive alone does not shorten it.
    ("grpc.http2.ping_timeout_ms", 8_000),
    # A connection that is taken and never spoken on is tried anew after this time.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A service that restarts is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
# Over all pods that a name stands for: by default one of them gets every call. Only for names:
# at a single address a call after a restart would fail instead of waiting for the connection.
SPREAD = ("grpc.lb_policy_name", "round_robin")


class Channels:
    """One channel a service, opened on first use and closed together."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings = settings
        self._open: dict[str, grpc.aio.Channel] = {}

    def to(self, service: str) -> grpc.aio.Channel:
        if service not in self._open:
            self._open[service] = self._connect(self._settings.address_of(service))
        return self._open[service]

    def _connect(self, address: str) -> grpc.aio.Channel:
        authority = self._settings.tls_authority
        options = [*OPTIONS, SPREAD] if address.startswith("dns:") else OPTIONS
        if authority is None:
            return grpc.aio.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(authority.read_bytes())
        return grpc.aio.secure_channel(address, credentials, options=options)

    async def close(self) -> None:
        for channel in self._open.values():
            await channel.close()
        self._open.clear()


def metadata_of(token: str) -> tuple[tuple[str, str], ...]:
    traceparent = current_traceparent()
    trace = (("traceparent", traceparent),) if traceparent else ()
    return (("authorization", f"Bearer {token}"), *trace)


async def call(method: Callable[..., Any], request: Message, *, token: str, timeout: float) -> Any:
    """One unary call; raises Fault. timeout: seconds."""
    try:
        return await method(request, metadata=metadata_of(token), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise from_error(error) from None


async def stream(
    method: Callable[..., Any], request: Message, *, token: str, timeout: float
) -> AsyncIterator[Any]:
    """The responses of a server stream; raises Fault. Closing the iterator cancels the call."""
    running = method(request, metadata=metadata_of(token), timeout=timeout)
    finished = False
    try:
        async for response in running:
            yield response
        finished = True
    except grpc.aio.AioRpcError as error:
        finished = True
        raise from_error(error) from None
    finally:
        if not finished:
            running.cancel()
