"""Resident memory of the mesh's processes."""

import psutil

from tidemill.cli.control import read_status
from tidemill.settings import MeshSettings

MIB = 1024 * 1024


def resident_memory(settings: MeshSettings) -> dict[str, int]:
    """MiB of each process with its children; shared pages count for each."""
    _, states = read_status(settings)
    return {state.name: resident(state.pid) for state in states}


def resident(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        return int(sum(process.memory_info().rss for process in family) // MIB)
    except psutil.NoSuchProcess:
        return 0
