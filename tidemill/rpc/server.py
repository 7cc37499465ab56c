"""A gRPC server with health, and reflection in development."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tidemill.clock import Clock
from tidemill.faults import StartRefused as StartRefused
from tidemill.rpc.access import access_of
from tidemill.rpc.client import MAX_BYTES
from tidemill.rpc.guard import Guard
from tidemill.security.tokens import Verifier
from tidemill.settings import MeshSettings
from tidemill.telemetry import Telemetry

log = structlog.get_logger()

GRACE_SECONDS = 4.0
"""Beside the consumers' own; see tidemill/bus/bus.py for the whole stop."""
MAX_CONCURRENT_RPCS = 256


@dataclass
class RpcServer:
    """grpc: register servicers on it before start. port is known after start."""

    grpc: grpc.aio.Server
    health: health.aio.HealthServicer
    settings: MeshSettings
    port: int
    serving: bool | None = None
    health_names: tuple[str, ...] = ("",)
    """What health checks may ask for: "" is the process, the others its services by full name."""

    async def start(self, services: list[str]) -> None:
        """Listen. Refuses an RPC without an access rule, a taken port, and open plaintext."""
        check_access_rules(services)
        self.health_names = ("", *services)
        # The library's servicer says SERVING until it is told otherwise.
        await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
        if self.settings.dev:
            names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self.grpc)
        self.port = self._bind(address_text(self.settings.host, self.port))
        await self.grpc.start()

    def _bind(self, address: str) -> int:
        credentials = tls_credentials(self.settings)
        try:
            check_free(self.settings.host, self.port)
            if credentials is not None:
                return self.grpc.add_secure_port(address, credentials)
            return self.grpc.add_insecure_port(address)
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EADDRINUSE:
                raise StartRefused("ADDRESS_UNUSABLE", f"{address} cannot be bound") from error
            hint = f"{address} is taken; stop what uses it or set TIDEMILL_PORT_BASE"
            raise StartRefused("PORT_IN_USE", hint) from error

    async def set_serving(self, serving: bool) -> bool:
        """Tell health checks; returns whether this is news."""
        news, self.serving = serving is not self.serving, serving
        status = health_pb2.HealthCheckResponse
        await self._tell(status.SERVING if serving else status.NOT_SERVING)
        return news

    async def _tell(self, status: int) -> None:
        for name in self.health_names:
            await self.health.set(name, status)

    async def stop(self) -> None:
        """Refuse new calls, let running ones end within the grace time."""
        await self.health.enter_graceful_shutdown()
        await self.grpc.stop(GRACE_SECONDS)


def check_access_rules(services: list[str]) -> None:
    for name in services:
        descriptor = descriptor_pool.Default().FindServiceByName(name)
        for method in descriptor.methods:
            rule = access_of(f"/{name}/{method.name}")
            if rule is None or not (rule.scope and rule.max_request_bytes and rule.max_duration_ms):
                raise StartRefused(
                    "ACCESS_RULE_MISSING", f"{name}/{method.name} declares no access"
                )


def check_exposure(settings: MeshSettings) -> None:
    """Plaintext, reflection and development keys stay on loopback."""
    if is_loopback(settings.host):
        return
    if not (settings.tls_certificate and settings.tls_key):
        hint = "set TIDEMILL_TLS_CERTIFICATE and TIDEMILL_TLS_KEY, or TIDEMILL_HOST=127.0.0.1"
        raise StartRefused("PLAINTEXT_REFUSED", hint)
    if settings.dev:
        hint = "set TIDEMILL_DEV=false and mount your own key, or TIDEMILL_HOST=127.0.0.1"
        raise StartRefused("DEVELOPMENT_REFUSED", hint)


def tls_credentials(settings: MeshSettings) -> grpc.ServerCredentials | None:
    """From the files of the settings; None when there are none."""
    if not (settings.tls_certificate and settings.tls_key):
        return None
    try:
        pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
    except OSError as error:
        hint = f"cannot read {settings.tls_certificate} or {settings.tls_key}"
        raise StartRefused("TLS_UNREADABLE", hint) from error
    return grpc.ssl_server_credentials([pair])


def check_free(host: str, port: int) -> None:
    """OSError when the port is taken. gRPC would find out too, and print lines of its own."""
    if not port:
        return
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)


def address_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def open_server(
    settings: MeshSettings, port: int, verifier: Verifier, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[RpcServer]:
    """A server that is not listening yet; stopped gracefully at the end."""
    guard = Guard(verifier, telemetry, clock)
    server = grpc.aio.server(
        interceptors=[guard],
        options=[
            ("grpc.max_receive_message_length", MAX_BYTES),
            ("grpc.max_send_message_length", MAX_BYTES),
            # Callers' pings, which a server takes for abuse by default.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_ping_strikes", 0),
            # Two servers on one port would share its calls silently.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
    )
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    rpc_server = RpcServer(server, health_servicer, settings, port)
    try:
        yield rpc_server
    finally:
        await rpc_server.stop()
