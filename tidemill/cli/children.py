"""Processes that the supervisor starts: programs, and services through their fork server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

FORK_SERVER = (sys.executable, "-m", "services.fork_server")
ANSWER_SECONDS = 120.0
"""The first start waits for the imports."""
UNKNOWN_CODE = 1


class Child(Protocol):
    """A started process. wait: until it ends; its exit code, negative for a signal."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def terminate(self) -> None: ...

    async def wait(self) -> int: ...


async def start_program(
    command: tuple[str, ...], log: Path, environment: Mapping[str, str]
) -> Child:
    """A program of its own, in a session of its own."""
    with log.open("ab") as opened:
        return await asyncio.create_subprocess_exec(
            *command,
            stdout=opened,
            stderr=opened,
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


class ForkServer:
    """Starts services by fork; one that ended is started anew with the next service. Only the
    process itself knows of its end, not of a failure of its imports: see the supervisor's log."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self, name: str, log: Path) -> Child:
        """Raises ConnectionError or TimeoutError when there is no server to ask."""
        answer, server = await self._ask({"start": name, "log": str(log)}, None)
        return ForkedChild(answer["pid"], self, server)

    async def collect(self, pid: int, server: asyncio.subprocess.Process) -> int:
        """The exit code of a process that has ended; UNKNOWN_CODE once its server is gone."""
        try:
            answer, _ = await self._ask({"collect": pid}, server)
        except (ConnectionError, TimeoutError):
            return UNKNOWN_CODE
        return answer["code"]

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()

    async def _ask(
        self, request: dict[str, object], server: asyncio.subprocess.Process | None
    ) -> tuple[dict[str, int], asyncio.subprocess.Process]:
        """server: the one to ask, which may be gone; None for any."""
        async with self._turn:
            process = server or await self._running()
            if process.stdin is None or process.stdout is None or process.returncode is not None:
                raise ConnectionError
            process.stdin.write(json.dumps(request).encode() + b"\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                await process.stdin.drain()
                line = await process.stdout.readline()
            if not line:
                raise ConnectionError
            return json.loads(line), process

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *FORK_SERVER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        return self._process


class ForkedChild:
    """A service, which is the fork server's child and not ours: the kernel tells its end by a
    descriptor, and the server its code."""

    def __init__(self, pid: int, server: ForkServer, parent: asyncio.subprocess.Process) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._parent = parent
        self._ended = asyncio.Event()
        self._collecting = asyncio.Lock()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:  # it and its parent are gone
            self._ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._descriptor, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._ended.set()

    def terminate(self) -> None:
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)

    async def wait(self) -> int:
        await self._ended.wait()
        async with self._collecting:
            if self.returncode is None:
                self.returncode = await self._server.collect(self.pid, self._parent)
        return self.returncode
