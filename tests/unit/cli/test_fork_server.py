"""Services that are forked and not started anew are processes of their own nevertheless."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.waiting import eventually
from tidemill.cli.children import UNKNOWN_CODE, Child, ForkServer
from tidemill.cli.processes import child_environment
from tidemill.settings import MeshSettings

pytestmark = pytest.mark.slow


def free_base() -> int:
    """The services bind from ten above it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) - 20


@pytest.fixture
def settings(tmp_path: Path) -> MeshSettings:
    return MeshSettings(home=tmp_path, port_base=free_base())


@pytest.fixture
async def server(settings: MeshSettings) -> AsyncIterator[ForkServer]:
    server = ForkServer(child_environment(settings))
    yield server
    await server.close()
    for process in processes_of(settings.home):
        process.kill()


def processes_of(home: Path) -> list[psutil.Process]:
    """What a test that failed has left running; ended ones cannot be asked."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TIDEMILL_HOME") == str(home):
                found.append(process)
    return found


def written(log: Path) -> str:
    return log.read_text() if log.exists() else ""


async def started(server: ForkServer, name: str, log: Path) -> Child:
    """A service that has said in its own log that it runs."""
    child = await server.start(name, log)

    async def runs() -> bool:
        return "service_started" in written(log)

    await eventually(runs)
    return child


async def end(*children: Child) -> list[int]:
    for child in children:
        child.terminate()
    return [await child.wait() for child in children]


async def test_each_service_has_its_own_process_session_name_and_log(
    server: ForkServer, tmp_path: Path
) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in ("trainer", "monitor")}
    children = {name: await started(server, name, log) for name, log in logs.items()}
    for name, child in children.items():
        assert psutil.Process(child.pid).name() == name
        assert os.getsid(child.pid) == child.pid
        assert f'"service": "{name}"' in logs[name].read_text()
    assert "trainer" not in logs["monitor"].read_text()
    assert await end(*children.values()) == [0, 0]


async def test_a_killed_service_ends_alone_and_starts_again(
    server: ForkServer, tmp_path: Path
) -> None:
    stays = await started(server, "trainer", tmp_path / "trainer.log")
    dies = await started(server, "monitor", tmp_path / "monitor.log")
    os.kill(dies.pid, signal.SIGKILL)
    assert await dies.wait() == -signal.SIGKILL
    assert stays.returncode is None
    assert psutil.pid_exists(stays.pid)
    again = await started(server, "monitor", tmp_path / "again.log")
    assert await end(again, stays) == [0, 0]


async def test_a_refused_start_is_told_by_its_exit_code(
    server: ForkServer, settings: MeshSettings, tmp_path: Path
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", settings.metrics_port("monitor")))
        holder.listen()
        log = tmp_path / "monitor.log"
        assert await (await server.start("monitor", log)).wait() == 2
    assert log.read_text().splitlines()[-1].startswith("PORT_IN_USE")


async def test_services_outlive_their_fork_server(server: ForkServer, tmp_path: Path) -> None:
    child = await started(server, "monitor", tmp_path / "monitor.log")
    parent = psutil.Process(child.pid).ppid()
    os.kill(parent, signal.SIGKILL)

    async def orphaned() -> bool:
        return psutil.Process(child.pid).ppid() != parent

    await eventually(orphaned)
    # The kernel still tells the end of such a process, and nobody its code.
    other = await started(server, "trainer", tmp_path / "trainer.log")
    assert await end(child, other) == [UNKNOWN_CODE, 0]
