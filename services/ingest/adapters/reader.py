"""Hands documents to the reading process, and replaces it when it dies or hangs."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Any

from services.ingest.adapters.preparation import Limits, Source
from services.ingest.adapters.reader_process import LENGTH
from services.ingest.domain.documents import Passage, Prepared, Rejected
from tidemill.faults import Fault, Reason

DOCUMENTS_PER_PROCESS = 500
"""Then a fresh one: what a parser leaks stays bounded."""
# The kernel ends what uses up its processor time, and what takes the machine's last memory.
_REASONS = {int(signal.SIGXCPU): "DEADLINE_EXCEEDED", int(signal.SIGKILL): "DOCUMENT_TOO_LARGE"}


@dataclass(frozen=True)
class Allowance:
    """What reading one document may cost: processor and wall time in seconds, memory in bytes."""

    cpu_seconds: int
    wall_seconds: float
    memory_bytes: int


class Reader:
    """One document at a time. Use as an async context manager."""

    def __init__(self, limits: Limits, allowance: Allowance) -> None:
        self._limits = limits
        self._allowance = allowance
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._served = 0

    async def __aenter__(self) -> "Reader":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def prepare(self, source: Source, content: bytes) -> Prepared:
        """Raises Rejected for the document's own fault, Fault(DEADLINE_EXCEEDED) for ours."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._allowance.wall_seconds):
                    reply = await self._ask(source, content)
            except TimeoutError as error:
                await self._stop()
                raise Fault(Reason.DEADLINE_EXCEEDED, work="reading") from error
            except asyncio.CancelledError:
                await self._stop()
                raise
        if "rejected" in reply:
            raise Rejected(reply["rejected"])
        return _prepared(reply["prepared"])

    async def _ask(self, source: Source, content: bytes) -> dict[str, Any]:
        process = await self._running()
        request = {
            "source": asdict(source),
            "limits": asdict(self._limits),
            "cpu_seconds": self._allowance.cpu_seconds,
        }
        try:
            reply = await _exchange(process, json.dumps(request).encode(), content)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Rejected(await self._cause_of_death(process)) from error
        self._served += 1
        return reply

    async def _cause_of_death(self, process: asyncio.subprocess.Process) -> str:
        status = await process.wait()
        await self._stop()
        return _REASONS.get(-status, "DOCUMENT_BROKEN")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._served >= DOCUMENTS_PER_PROCESS:
            await self._stop()
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.ingest.adapters.reader_process",
                str(self._allowance.memory_bytes),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                # The process reads what strangers wrote: it gets no secret of the service.
                env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.defpath},
            )
            self._served = 0
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()


async def _exchange(
    process: asyncio.subprocess.Process, request: bytes, content: bytes
) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise ConnectionError
    for part in (request, content):
        process.stdin.write(LENGTH.pack(len(part)))
        process.stdin.write(part)
        await process.stdin.drain()
    header = await process.stdout.readexactly(LENGTH.size)
    reply: dict[str, Any] = json.loads(await process.stdout.readexactly(LENGTH.unpack(header)[0]))
    return reply


def _prepared(value: dict[str, Any]) -> Prepared:
    passages = tuple(Passage(tuple(p["headings"]), str(p["text"])) for p in value["passages"])
    return Prepared(
        str(value["title"]), str(value["source_uri"]), passages, int(value["masked_count"])
    )
