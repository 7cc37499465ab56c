"""Starting, stopping and reading the state of the mesh on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill.cli.output import CommandFailed
from tidemill.cli.processes import child_environment, log_file, mesh_processes, status_path
from tidemill.settings import MeshSettings

STOP_SECONDS = 45.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ProcessState:
    """A line of `tidemill status`."""

    name: str
    address: str
    state: str
    pid: int
    restarts: int
    detail: str


def read_status(settings: MeshSettings) -> tuple[int, list[ProcessState]]:
    """(pid of the supervisor or 0, its processes). A dead supervisor counts as none."""
    try:
        document = json.loads(status_path(settings).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0, []
    pid = int(document["supervisor"])
    if not is_alive(pid):
        return 0, []
    fields = ("name", "address", "state", "pid", "restarts", "detail")
    return pid, [ProcessState(**{k: row[k] for k in fields}) for row in document["processes"]]


def is_alive(pid: int) -> bool:
    """True for a running process; a zombie that nobody collected is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def start_supervisor(settings: MeshSettings) -> None:
    """Start the mesh in the background; raises CommandFailed when a port is taken."""
    check_ports(settings)
    path = log_file(settings, "supervisor")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "tidemill.cli.supervisor"],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=child_environment(settings),
            start_new_session=True,
        )


def check_ports(settings: MeshSettings) -> None:
    for process in mesh_processes(settings):
        for port in process.ports:
            if is_taken(port):
                raise CommandFailed(
                    "PORT_IN_USE",
                    f"port {port} (for {process.name}) is taken; "
                    "stop what uses it, or set TIDEMILL_PORT_BASE to another number",
                )


def is_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def stop_supervisor(settings: MeshSettings) -> bool:
    """Stop the mesh and wait; False when none was running."""
    pid, _ = read_status(settings)
    if not pid:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise CommandFailed("STOP_TIMEOUT", f"process {pid} did not stop; see the logs")
        time.sleep(POLL_SECONDS)
    return True


def refused(states: list[ProcessState]) -> Iterator[ProcessState]:
    return (state for state in states if state.state == "refused")
