"""The seven services, each in a process of its own, as `tidemill up` starts them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tidemill.settings import SERVICES, MeshSettings

ROOT = Path(__file__).parents[2]
SERVING = HealthCheckResponse.SERVING
# What a client sees of a server that is going or gone.
ENDED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


@dataclass(frozen=True)
class Stop:
    """Seconds after SIGTERM until health said NOT_SERVING, and until the process had ended."""

    code: int
    unready: float
    ended: float


@dataclass
class ServiceProcesses:
    """Processes by service; their output goes to files beside the home."""

    settings: MeshSettings
    extra: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        for name in names or SERVICES:
            command = [sys.executable, "-m", "services", name]
            with (self.settings.home.parent / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    command, cwd=ROOT, stdout=log, stderr=log, env=self.environment()
                )

    def environment(self) -> dict[str, str]:
        own = {
            "TIDEMILL_HOME": str(self.settings.home),
            "TIDEMILL_PORT_BASE": str(self.settings.port_base),
            "TIDEMILL_KAFKA": self.settings.kafka,
            "TIDEMILL_TRITON": self.settings.triton,
        }
        return {**os.environ, **own, **self.extra}

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    async def health(self, channel: grpc.aio.Channel) -> int | None:
        """None when nobody answers."""
        try:
            answer = await HealthStub(channel).Check(HealthCheckRequest(), timeout=2.0)
        except grpc.aio.AioRpcError:
            return None
        return int(answer.status)

    async def serving(self, *names: str, seconds: float = 90.0) -> None:
        """Returns once each says that it serves."""
        async with asyncio.timeout(seconds):
            for name in names or SERVICES:
                async with grpc.aio.insecure_channel(self.settings.address_of(name)) as channel:
                    while await self.health(channel) != SERVING:
                        assert self.processes[name].poll() is None, f"{name} ended"
                        await asyncio.sleep(0.1)

    async def stop(self, name: str) -> Stop:
        """SIGTERM while someone asks for its health."""
        process = self.processes[name]
        async with grpc.aio.insecure_channel(self.settings.address_of(name)) as channel:
            assert await self.health(channel) == SERVING
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            ending = asyncio.create_task(asyncio.to_thread(process.wait, 30))
            while await self.health(channel) == SERVING:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.01)
            unready = time.monotonic() - began
            code = await ending
            ended = time.monotonic() - began
        return Stop(code, unready, ended)
