"""Keeps one Triton alive: loads its models, proves them by real requests, restarts what dies."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from tidemill.modelserver import layout as layouts
from tidemill.modelserver import process as processes
from tidemill.modelserver.client import ModelServer
from tidemill.modelserver.errors import ModelServerError
from tidemill.modelserver.install import Installation
from tidemill.modelserver.process import LOOPBACK, Ports
from tidemill.modelserver.watch import Watch, first

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# A server that ran this long had started well: its next crash begins a new count.
HEALTHY_AFTER_S = 60.0

log = structlog.get_logger()


class PortInUse(Exception):
    """A wanted port is taken by another program."""


class ServerFailed(Exception):
    """Triton would not start or stay up; its log file says why."""


@dataclass(frozen=True)
class Supervisor:
    """Runs the model server of one home folder on fixed ports."""

    home: Path
    installation: Installation
    ports: Ports

    async def run(self, stopping: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serves until `stopping`; calls `ready` whenever both models have answered anew.

        Raises ServerFailed after too many crashes in a row, WeightsFailed on damaged weights.
        """
        write = partial(layouts.lay_out, self.home, self.installation, whole=True)
        layout = await asyncio.to_thread(write)
        failures = 0
        while not stopping.is_set():
            began = asyncio.get_running_loop().time()
            with contextlib.suppress(ModelServerError):
                await self._serve_once(layout, stopping, ready)
            if stopping.is_set():
                return
            lived = asyncio.get_running_loop().time() - began
            failures = 1 if lived > HEALTHY_AFTER_S else failures + 1
            if failures > len(BACKOFF_S):
                raise ServerFailed(f"Triton failed {failures} times in a row, see {layout.log}")
            log.error("triton_ended", failures=failures)
            await _pause(stopping, BACKOFF_S[failures - 1])

    async def _serve_once(
        self, layout: layouts.Layout, stopping: asyncio.Event, ready: Callable[[], None]
    ) -> None:
        """One life of the server: start, load, prove, watch; always cleaned up."""
        token = layouts.admin_token(self.home)
        triton = await processes.start(self.installation, layout, self.ports, token)
        log.info("triton_started", pid=triton.pid, grpc_port=self.ports.grpc)
        try:
            async with ModelServer(self.ports.address, admin_token=token) as client:
                watch = Watch(triton, client, ready)
                await first(watch.serve(), triton.wait(), stopping.wait())
        finally:
            await triton.stop()
            log.info("triton_stopped", exit_code=triton.exit_code)


def choose_ports(grpc: int, http: int, metrics: int, host: str = LOOPBACK) -> Ports:
    """The wanted ports, with free ones in place of zeros; raises PortInUse."""
    held = [_hold(host, port) for port in (grpc, http, metrics)]
    numbers = [held_socket.getsockname()[1] for held_socket in held]
    for held_socket in held:
        held_socket.close()
    return Ports(numbers[0], numbers[1], numbers[2], host)


def _hold(host: str, port: int) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise PortInUse(f"port {port} of {host} is taken") from error
    return held


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
