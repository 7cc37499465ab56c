"""Triton as a child process: how it is started, what it leaves behind, how it is ended."""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from tidemill.modelserver.install import Installation, shared_python_folder
from tidemill.modelserver.layout import Layout

EXIT_TIMEOUT_S = 5
METRICS_INTERVAL_MS = 30_000
KILL_AFTER_S = EXIT_TIMEOUT_S + 3.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel keeps it
STUB = "triton_python_backend_stub"
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - compared with, not bound
GUARDED = "model-repository,shared-memory,trace,logging"
"""What only the holder of the admin token may ask for; health and inference are open."""


@dataclass(frozen=True)
class Ports:
    """Ports of one server, and the address that it binds them on."""

    grpc: int
    http: int
    metrics: int
    host: str = LOOPBACK

    @property
    def address(self) -> str:
        """Where this machine reaches the server."""
        return f"{LOOPBACK if self.host == EVERYWHERE else self.host}:{self.grpc}"


class TritonProcess:
    """One run of the server."""

    def __init__(self, process: asyncio.subprocess.Process, layout: Layout, prefix: str) -> None:
        self._process = process
        self._layout = layout
        self._prefix = prefix

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def stubs(self) -> dict[str, int]:
        """Pids of the living model processes, by model name."""
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return {}
        return dict(filter(None, (_stub(child) for child in children)))

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self) -> None:
        """Asks it to end, then ends it; its shared memory goes too."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), KILL_AFTER_S)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        self.clean()

    def kill(self) -> None:
        """Ends the whole process group at once: the model processes must not linger."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def clean(self) -> None:
        """Removes what a run leaves behind: stray model processes and shared memory."""
        self.kill()
        clean_shared_memory(self._prefix)
        self._layout.pid.unlink(missing_ok=True)


async def start(
    installation: Installation, layout: Layout, ports: Ports, admin_token: str
) -> TritonProcess:
    """Starts an empty server: models are loaded over gRPC, so that ports open at once."""
    prefix = f"tidemill-{ports.grpc}-"
    clean_shared_memory(prefix)
    with layout.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *_command(installation, layout, ports, prefix, admin_token),
            env=_environment(installation),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    layout.pid.write_text(str(process.pid))
    return TritonProcess(process, layout, prefix)


def end_orphan(layout: Layout) -> None:
    """Ends the server that a killed supervisor left running on these files."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(layout.pid.read_text()))
        if str(layout.repository) in " ".join(process.cmdline()):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(KILL_AFTER_S)
    layout.pid.unlink(missing_ok=True)


def clean_shared_memory(prefix: str) -> None:
    """Removes the regions of crashed model processes; Triton never does."""
    for path in SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def _stub(process: psutil.Process) -> tuple[str, int] | None:
    """Model name and pid of a child, if it is a living model process."""
    try:
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE or STUB not in " ".join(command[:1]):
            return None
    except psutil.Error:
        return None
    # The stub's last argument is the instance's name: model, device and number.
    instance = next(part for part in reversed(command) if part.count("_") >= 2)
    return instance.rsplit("_", 2)[0], process.pid


def _command(
    installation: Installation, layout: Layout, ports: Ports, prefix: str, admin_token: str
) -> list[str]:
    shared = ("shm-default-byte-size=8388608", "shm-growth-byte-size=8388608")
    addresses = [f"--{kind}-address={ports.host}" for kind in ("grpc", "http", "metrics")]
    return [
        str(installation.binary),
        f"--model-repository={layout.repository}",
        f"--backend-directory={layout.backends}",
        f"--cache-directory={installation.caches}",
        *addresses,
        f"--grpc-port={ports.grpc}",
        f"--http-port={ports.http}",
        f"--metrics-port={ports.metrics}",
        "--model-control-mode=explicit",
        "--exit-on-error=false",
        "--strict-readiness=false",
        # The repository holds whole configurations; completing them starts each model twice.
        "--disable-auto-complete-config",
        # Of the machine's processor time and memory, for which nobody asks it this often.
        f"--metrics-interval-ms={METRICS_INTERVAL_MS}",
        *(f"--backend-config=python,{value}" for value in shared),
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--grpc-restricted-protocol={GUARDED}:admin-token={admin_token}",
        f"--http-restricted-api={GUARDED}:admin-token={admin_token}",
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        "--log-format=ISO8601",
    ]


def _environment(installation: Installation) -> dict[str, str]:
    """The stub takes its packages from the first python3 in PATH and needs our libpython."""
    libraries = f"{shared_python_folder()}:{installation.libraries}"
    return os.environ | {
        "PATH": f"{installation.environment / 'bin'}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": libraries,
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
