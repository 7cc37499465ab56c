"""The broker as an object: open it, use its address, close it."""

from types import TracebackType
from typing import Self

import structlog

from tidemill.broker.clock import Clock, SystemClock
from tidemill.broker.dispatch import Dispatcher
from tidemill.broker.faults import Faults
from tidemill.broker.maintenance import Maintenance
from tidemill.broker.node import Node, open_node
from tidemill.broker.server import Server
from tidemill.broker.settings import BrokerSettings
from tidemill.broker.storage.disk import Disk

_log = structlog.get_logger(__name__)


class EmbeddedBroker:
    """A single-node broker on the running event loop.

    `async with EmbeddedBroker(BrokerSettings(data_dir=..., port=0)) as broker:` serves at
    `broker.bootstrap`. Entering raises StartupRefused. Tests put faults into `broker.faults`
    and may pass a Disk that fails.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        disk: Disk | None = None,
        clock: Clock | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self._settings = settings
        self._disk = disk or Disk()
        self._clock = clock or SystemClock()
        self._node: Node | None = None
        self._server: Server | None = None
        self._maintenance: Maintenance | None = None

    @property
    def bootstrap(self) -> str:
        """The address clients connect to, `host:port`."""
        assert self._node is not None, "the broker is not open"  # noqa: S101
        return f"{self._node.host}:{self._node.port}"

    async def __aenter__(self) -> Self:
        self._server = Server(self._settings)
        self._node = open_node(self._settings, self._disk, self._clock)
        try:
            host, port = await self._server.bind()
        except BaseException:
            self._node.close()
            raise
        self._node.host, self._node.port = self._settings.advertised or (host, port)
        self._maintenance = Maintenance(self._node)
        self._maintenance.start()
        await self._server.serve(Dispatcher(self._node, self.faults))
        _log.info("broker_started", address=f"{host}:{port}", data=str(self._settings.data_dir))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server and self._maintenance and self._node  # noqa: S101, PT018
        await self._server.close()
        await self._maintenance.close()
        self._node.close()
        _log.info("broker_stopped")
