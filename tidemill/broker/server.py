"""The listening socket and the connections it has accepted."""

import asyncio
import errno
import ipaddress

import structlog

from tidemill.broker.connection import Connection
from tidemill.broker.dispatch import Dispatcher
from tidemill.broker.errors import StartupRefused
from tidemill.broker.settings import BrokerSettings

_STREAM_LIMIT_BYTES = 1 << 18
_log = structlog.get_logger(__name__)


class Server:
    """Accepts up to a bounded number of connections."""

    def __init__(self, settings: BrokerSettings) -> None:
        """Raises StartupRefused for an address other machines could reach."""
        self._settings = settings
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._dispatcher: Dispatcher | None = None
        _check_loopback(settings)

    async def bind(self) -> tuple[str, int]:
        """Takes the port, without answering yet; returns host and port.

        Raises StartupRefused with PORT_IN_USE or ADDRESS_UNUSABLE.
        """
        host, port = self._settings.host, self._settings.port
        try:
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=_STREAM_LIMIT_BYTES, start_serving=False
            )
        except OSError as error:
            raise _cannot_bind(host, port, error) from error
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def serve(self, dispatcher: Dispatcher) -> None:
        """Starts to answer."""
        assert self._server is not None  # noqa: S101  bind comes first
        self._dispatcher = dispatcher
        await self._server.start_serving()

    async def close(self) -> None:
        """Stops accepting and ends all connections, waiting ones too."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._settings.connections
        if self._dispatcher is None or len(self._connections) >= limits.max_connections:
            _log.warning("connection_refused", reason="TOO_MANY_CONNECTIONS")
            writer.close()
            return
        connection = Connection(reader, writer, self._dispatcher, limits)
        task = asyncio.get_running_loop().create_task(connection.run())
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


def _check_loopback(settings: BrokerSettings) -> None:
    if settings.allow_remote or settings.host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise StartupRefused(
            "HOST_NOT_LOOPBACK",
            f"{settings.host} can be reached from other machines and the broker has no access "
            "control; use 127.0.0.1, or pass --allow-remote if the network is yours",
        )


def _cannot_bind(host: str, port: int, error: OSError) -> StartupRefused:
    if error.errno == errno.EADDRINUSE:
        return StartupRefused(
            "PORT_IN_USE",
            f"{host}:{port} is taken by another process; stop it or pass another --port",
        )
    return StartupRefused(
        "ADDRESS_UNUSABLE", f"cannot listen on {host}:{port}; pass another --host or --port"
    )
