"""Waiting until each process of a starting mesh answers a real request."""

import asyncio
import socket
import time
from typing import TYPE_CHECKING

from tidemill.cli.context import Context
from tidemill.cli.control import read_status, refused
from tidemill.cli.output import CommandFailed
from tidemill.cli.processes import Process, log_file, mesh_processes

if TYPE_CHECKING:
    from tidemill.cli.probes import Probes

ASK_SECONDS = 0.2
CONNECT_SECONDS = 0.2
LOOK_SECONDS = 0.5


async def wait_until_ready(context: Context, timeout: float) -> None:
    """Probe each process until all answered; tell of each one as it comes.

    Raises CommandFailed with START_REFUSED or START_TIMEOUT.
    """
    # Here, as they take clients of Kafka and gRPC: the mesh starts while these are imported.
    from tidemill.cli.probes import Probes

    deadline = time.monotonic() + timeout
    async with context.channels() as channels:
        probes = Probes(context.settings, context.identity(), channels)
        waiting = {
            asyncio.create_task(answered(probes, process)): process.name
            for process in mesh_processes(context.settings)
        }
        try:
            await tell_as_they_come(context, waiting, deadline)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def tell_as_they_come(
    context: Context, waiting: dict["asyncio.Task[None]", str], deadline: float
) -> None:
    while waiting:
        check_progress(context, set(waiting.values()), deadline)
        done, _ = await asyncio.wait(
            waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            context.output.note(f"  ready  {waiting.pop(task)}")


async def answered(probes: "Probes", process: Process) -> None:
    """Returns once the process answers. It is asked when it listens: a client that was turned away
    would wait longer and longer between its tries."""
    while True:
        if listens(process.ports[0]) and await probes.is_ready(process.name):
            return
        await asyncio.sleep(ASK_SECONDS)


def listens(port: int) -> bool:
    """Whether somebody takes connections there; on this machine the answer comes at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_progress(context: Context, waiting: set[str], deadline: float) -> None:
    _, states = read_status(context.settings)
    for state in refused(states):
        raise CommandFailed("START_REFUSED", f"{state.name}: {state.detail}", 2)
    if time.monotonic() > deadline:
        logs = ", ".join(str(log_file(context.settings, name)) for name in sorted(waiting))
        raise CommandFailed("START_TIMEOUT", f"not ready: {', '.join(sorted(waiting))}; see {logs}")
