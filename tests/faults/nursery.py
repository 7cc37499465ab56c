"""Starts processes through the zygote, under strace or plain, and knows when they end."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.points import SYSCALLS, Count, Point, count_calls

STRACE = "strace"
ROOT = Path(__file__).parents[2]
STOP_SECONDS = 30.0


def missing_tools() -> str:
    """What must be installed first; empty when nothing."""
    return "" if shutil.which(STRACE) else "strace is missing: apt-get install strace"


@dataclass
class Child:
    """A service or a broker. tracer: strace on it; log: what strace wrote; doomed: its end was
    wanted."""

    role: str
    pid: int
    descriptor: int
    tracer: "asyncio.subprocess.Process | None" = None
    log: Path | None = None
    doomed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        asyncio.get_running_loop().add_reader(self.descriptor, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self.descriptor)
        os.close(self.descriptor)
        self.ended.set()

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    def signal(self, number: int) -> None:
        self.doomed = self.doomed or number != signal.SIGUSR1
        with suppress(ProcessLookupError):
            if self.alive:
                signal.pidfd_send_signal(self.descriptor, number)

    async def kill(self) -> None:
        """kill -9; returns once it is gone."""
        self.signal(signal.SIGKILL)
        await self.gone(STOP_SECONDS)

    async def stop(self) -> None:
        """SIGTERM, and kill -9 when that is not heeded."""
        self.signal(signal.SIGTERM)
        if not await self.gone(STOP_SECONDS):
            await self.kill()
            raise TimeoutError(f"{self.role} did not stop within {STOP_SECONDS:.0f} s")

    async def gone(self, seconds: float) -> bool:
        """Whether it ended within the time; its tracer has then ended too."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)
        if self.alive:
            return False
        if self.tracer is not None:
            async with asyncio.timeout(STOP_SECONDS):
                await self.tracer.wait()
        return True

    def counted(self) -> Count:
        """Calls by name, as strace saw them."""
        return count_calls(self.log.read_text(errors="replace")) if self.log else {}

    def was_killed(self) -> bool:
        """Whether strace saw it killed; False when it left by itself."""
        return self.log is not None and "+++ killed by SIGKILL" in self.log.read_text(
            errors="replace"
        )

    def last_call(self) -> str:
        """The call at which it was killed."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log else []
        return next((line for line in reversed(lines) if "+++" not in line), "")


class Nursery:
    """One zygote; use as an async context manager. Its end is the end of all its children.

    python, root: of another release, if its code is to run.
    """

    def __init__(
        self, roles: tuple[str, ...], *, python: str = sys.executable, root: Path = ROOT
    ) -> None:
        self._roles = roles
        self._python = python
        self._root = root
        self._turn = asyncio.Lock()
        self._zygote: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Nursery":
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        self._zygote = await asyncio.create_subprocess_exec(
            self._python,
            "-m",
            "tests.faults.zygote",
            *self._roles,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=self._root,
        )
        if await self._line(120.0) != "ready":
            raise RuntimeError("the zygote did not start")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._zygote is not None and self._zygote.returncode is None:
            self._zygote.kill()
            await self._zygote.wait()

    async def start(
        self,
        role: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        traced: bool = False,
        at: Point | None = None,
    ) -> Child:
        """at: where strace kills it. traced without a point: strace only writes down its calls."""
        request = {
            "role": role,
            "arguments": arguments,
            "environment": dict(environment),
            "log": str(log),
            "traced": traced or at is not None,
        }
        pid = await self._fork(request)
        child = Child(role, pid, os.pidfd_open(pid))
        if traced or at is not None:
            child.log = log.with_suffix(".strace")
            child.doomed = at is not None
            child.tracer = await trace(pid, child.log, at)
        return child

    async def _fork(self, request: Mapping[str, object]) -> int:
        assert self._zygote
        assert self._zygote.stdin
        async with self._turn:
            self._zygote.stdin.write(json.dumps(request).encode() + b"\n")
            await self._zygote.stdin.drain()
            return int(await self._line(20.0))

    async def _line(self, seconds: float) -> str:
        assert self._zygote
        assert self._zygote.stdout
        async with asyncio.timeout(seconds):
            return (await self._zygote.stdout.readline()).decode().strip()


async def trace(pid: int, log: Path, at: Point | None) -> "asyncio.subprocess.Process":
    """strace on a process and all threads that it makes, but not on programs that it starts: the
    reader of documents is another process, and its end is another matter."""
    calls = [at.syscall] if at else list(SYSCALLS)
    options = ["-e", f"trace={','.join(calls)}"]
    if at:
        options += ["-e", f"inject={at.syscall}:signal=SIGKILL:when={at.number}"]
    return await asyncio.create_subprocess_exec(
        STRACE,
        *("-f", "-q", "-y", "-s", "16", "--detach-on=execve", "-o", str(log)),
        *options,
        *("-p", str(pid)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
