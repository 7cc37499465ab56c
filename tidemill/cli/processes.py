"""The processes of a mesh on one machine: what is started, where it listens, in which order."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tidemill.settings import SERVICES, MeshSettings

BROKER = "broker"
TRITON = "triton"


@dataclass(frozen=True)
class Process:
    """One process of the mesh. ports: those it binds on 127.0.0.1."""

    name: str
    command: tuple[str, ...]
    ports: tuple[int, ...]
    address: str


def mesh_processes(settings: MeshSettings) -> list[Process]:
    """Broker and Triton first, unless an address says that they run elsewhere."""
    processes = []
    if not settings.kafka:
        processes.append(broker_process(settings))
    if not settings.triton:
        processes.append(triton_process(settings))
    return processes + [service_process(settings, name) for name in SERVICES]


def broker_process(settings: MeshSettings) -> Process:
    port = settings.port(0)
    command = (
        sys.executable,
        "-m",
        "tidemill.broker",
        "--data-dir",
        str(settings.home / "broker"),
        "--port",
        str(port),
        # One machine: a group need not wait for members that start later.
        "--group-initial-delay-ms",
        "0",
    )
    return Process(BROKER, command, (port,), f"127.0.0.1:{port}")


def triton_process(settings: MeshSettings) -> Process:
    grpc, http, metrics = (settings.port(offset) for offset in (1, 2, 3))
    command = (
        sys.executable,
        "-m",
        "tidemill.modelserver",
        "--home",
        str(settings.home),
        "--grpc-port",
        str(grpc),
        "--http-port",
        str(http),
        "--metrics-port",
        str(metrics),
    )
    return Process(TRITON, command, (grpc, http, metrics), f"127.0.0.1:{grpc}")


def service_process(settings: MeshSettings, name: str) -> Process:
    ports = (settings.grpc_port(name), settings.metrics_port(name))
    command = (sys.executable, "-m", "services", name)
    return Process(name, command, ports, settings.address_of(name))


def child_environment(settings: MeshSettings) -> dict[str, str]:
    """The parent's environment with the mesh's folders made absolute."""
    return os.environ | {
        "TIDEMILL_HOME": str(settings.home),
        "TIDEMILL_PORT_BASE": str(settings.port_base),
        # Spinning threads of one process starve the others on a small machine.
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def log_file(settings: MeshSettings, name: str) -> Path:
    return settings.home / "logs" / f"{name}.log"


def status_path(settings: MeshSettings) -> Path:
    """Where the supervisor writes what it knows of the processes."""
    return settings.home / "run" / "status.json"
