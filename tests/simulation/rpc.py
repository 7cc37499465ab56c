"""gRPC between simulated processes: real stubs, real guard, real servicers, no sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc

from tests.simulation.loop import pass_time, running_loop
from tests.simulation.process import Process, current
from tidemill.clock import Clock
from tidemill.rpc.guard import Guard
from tidemill.rpc.server import RpcServer, check_access_rules
from tidemill.security.tokens import Verifier
from tidemill.settings import MeshSettings
from tidemill.telemetry import Telemetry

HOP = 0.003


@dataclass
class Listening:
    """A server that takes calls: its process, its guard, its methods by full name."""

    process: Process
    guard: Guard
    methods: dict[str, Any]


@dataclass
class Network:
    """Who listens as which service; a call goes to one of them."""

    servers: dict[str, list[Listening]] = field(default_factory=dict)

    def listener(self, service: str) -> Listening | None:
        alive = [s for s in self.servers.get(service, []) if s.process.alive]
        return running_loop().latency.choice(alive) if alive else None


@dataclass
class Registry:
    """Stands for grpc.aio.Server while servicers are added."""

    methods: dict[str, Any] = field(default_factory=dict)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The registered ones are the same methods."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


class Health:
    """Stands for the health servicer; RpcServer.serving keeps what it was told."""

    async def set(self, service: str, status: Any) -> None:
        running_loop().trace("health", status)

    async def enter_graceful_shutdown(self) -> None:
        await asyncio.sleep(0)


class Server(RpcServer):
    """The real server without its socket."""

    guard: Guard

    async def start(self, services: list[str]) -> None:
        check_access_rules(services)
        process = current()
        listening = Listening(process, self.guard, self.grpc.methods)  # type: ignore[attr-defined]
        running_loop().network.servers.setdefault(process.service, []).append(listening)

    async def stop(self) -> None:
        servers = running_loop().network.servers.get(current().service, [])
        servers[:] = [s for s in servers if s.process is not current()]
        await asyncio.sleep(0)


@asynccontextmanager
async def open_server(
    settings: MeshSettings, port: int, verifier: Verifier, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[RpcServer]:
    """Stands for tidemill.rpc.server.open_server."""
    server = Server(Registry(), Health(), settings, port)  # type: ignore[arg-type]
    server.guard = Guard(verifier, telemetry, clock)
    try:
        yield server
    finally:
        await server.stop()


class Call:
    """The server's side of one call."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.status: Any = None

    def time_remaining(self) -> float:
        return self._deadline - running_loop().time()

    async def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise grpc.aio.AbortError

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()


class Channel:
    """A client's way to one service."""

    def __init__(self, service: str) -> None:
        self._service = service

    async def close(self) -> None:
        await asyncio.sleep(0)

    def unary_unary(
        self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., Any]:
        async def call(request: Any, *, metadata: Any = (), timeout: float = 10.0) -> Any:
            body = request_serializer(request)
            response = await ask(self._service, path, body, metadata, timeout)
            return response_deserializer(response)

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """No scenario streams; a call would say so at once."""

        def call(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(path)

        return call


class Channels:
    """Stands for tidemill.rpc.Channels."""

    def __init__(self, settings: MeshSettings) -> None:
        pass

    def to(self, service: str) -> Channel:
        return Channel(service)

    async def close(self) -> None:
        await asyncio.sleep(0)


async def ask(service: str, path: str, body: bytes, metadata: Any, timeout: float) -> bytes:
    """One call; it may be refused, stall, or lose its reply after the work was done."""
    loop, faults = running_loop(), running_loop().faults
    deadline = loop.time() + timeout
    await pass_time(HOP)
    listening = loop.network.listener(service)
    if listening is None or loop.latency.random() < faults.refused:
        raise failure(grpc.StatusCode.UNAVAILABLE)
    reply: asyncio.Future[Any] = loop.create_future()
    loop.start(serve(listening, path, body, metadata, deadline, reply), listening.process)
    try:
        status, response = await asyncio.wait_for(reply, max(0.0, deadline - loop.time()))
    except TimeoutError:
        raise failure(grpc.StatusCode.DEADLINE_EXCEEDED) from None
    await pass_time(HOP)
    if loop.latency.random() < faults.lost_reply:
        loop.trace("reply lost", path)
        raise failure(grpc.StatusCode.UNAVAILABLE)
    if status is not None:
        raise failure(status.code, status.details, status.trailing_metadata)
    return bytes(response)


async def serve(
    listening: Listening, path: str, body: bytes, metadata: Any, deadline: float, reply: Any
) -> None:
    """In the server's process: the guard, the servicer, the answer."""
    handler = listening.methods[path]

    async def found(_: Any) -> Any:
        return handler

    details = SimpleNamespace(method=path, invocation_metadata=metadata)
    guarded = await listening.guard.intercept_service(found, details)  # type: ignore[arg-type]
    call = Call(deadline)
    try:
        response = guarded.response_serializer(await guarded.unary_unary(body, call))
    except grpc.aio.AbortError:
        response = b""
    if not reply.done():
        reply.set_result((call.status, response))


def failure(code: Any, details: str = "", trailing: Any = ()) -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*trailing) if trailing else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details)
