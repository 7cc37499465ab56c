"""Starts the mesh's processes, restarts what crashes, stops them in reverse order.

Run in the background by `tidemill up`: python -m tidemill.cli.supervisor
"""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from tidemill.cli.children import Child, ForkServer, start_program
from tidemill.cli.log_files import bounded_logs
from tidemill.cli.processes import (
    BROKER,
    Process,
    child_environment,
    log_file,
    mesh_processes,
    status_path,
)
from tidemill.faults import Fault
from tidemill.settings import SERVICES, MeshSettings

REFUSED_EXIT = 2
FAILED_EXIT = 1
STOP_SECONDS = 20.0
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0
STEADY_SECONDS = 30.0
TOPICS_SECONDS = 60.0


@dataclass
class ProcessStatus:
    """state: starting, running, restarting, refused (exit code 2: will not be tried again),
    stopped. detail: the last line that a refused process wrote."""

    name: str
    address: str
    state: str = "starting"
    pid: int = 0
    restarts: int = 0
    started_at: float = 0.0
    detail: str = ""


class Supervisor:
    """Keeps the children alive and status.json true."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings = settings
        self._processes = mesh_processes(settings)
        self._environment = child_environment(settings)
        self._services = ForkServer(self._environment)
        self._children: dict[str, Child] = {}
        self._stopping = asyncio.Event()
        self.status = {p.name: ProcessStatus(p.name, p.address) for p in self._processes}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._write_status()
        tasks = [asyncio.create_task(self._keep(process)) for process in self._processes]
        topics = asyncio.create_task(self._make_topics())
        await self._stopping.wait()
        topics.cancel()
        await self._stop_all()
        await asyncio.gather(*tasks, topics, return_exceptions=True)
        await self._services.close()
        status_path(self._settings).unlink(missing_ok=True)

    async def _make_topics(self) -> None:
        """Consumers wait for their topics, so a late broker only delays them."""
        # Here, so that the processes start before a client of Kafka is imported.
        from tidemill.bus.admin import create_topics

        deadline = time.monotonic() + TOPICS_SECONDS
        while time.monotonic() < deadline:
            try:
                await create_topics(self._settings.kafka_address)
                return
            except Fault:
                await asyncio.sleep(0.3)

    async def _keep(self, process: Process) -> None:
        status, backoff = self.status[process.name], FIRST_BACKOFF_SECONDS
        while not self._stopping.is_set():
            code = await self._run_once(process, status)
            if self._stopping.is_set():
                return
            if code == REFUSED_EXIT:
                status.state, status.detail = "refused", last_line(self._settings, process.name)
                self._write_status()
                return
            if time.time() - status.started_at > STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            status.state, status.restarts = "restarting", status.restarts + 1
            self._write_status()
            await self._pause(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)

    async def _run_once(self, process: Process, status: ProcessStatus) -> int:
        try:
            child = await self._start(process)
        except (ConnectionError, TimeoutError):
            status.started_at = time.time()
            return FAILED_EXIT
        self._children[process.name] = child
        status.pid, status.started_at, status.state = child.pid, time.time(), "running"
        self._write_status()
        return await child.wait()

    async def _start(self, process: Process) -> Child:
        path = log_file(self._settings, process.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if process.name in SERVICES:
            return await self._services.start(process.name, path)
        return await start_program(process.command, path, self._environment)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _stop_all(self) -> None:
        """Services first, then Triton, then the broker, which the others still need to drain."""
        services = [p.name for p in self._processes if p.name != BROKER]
        await asyncio.gather(*(self._stop(name) for name in services))
        await self._stop(BROKER)

    async def _stop(self, name: str) -> None:
        child = self._children.get(name)
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            # The whole session: a server may have children of its own.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
        self.status[name].state = "stopped"
        self._write_status()

    def _write_status(self) -> None:
        path = status_path(self._settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "supervisor": os.getpid(),
            "processes": [asdict(status) for status in self.status.values()],
        }
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(document))
        temporary.replace(path)


def last_line(settings: MeshSettings, name: str) -> str:
    """The last line of a process's log; it is a refused process's own explanation."""
    lines = log_file(settings, name).read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def main() -> int:
    settings = MeshSettings()
    with bounded_logs(settings.home / "logs"):
        asyncio.run(Supervisor(settings).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
