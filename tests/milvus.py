"""milvus-lite's own server, in a process: the protocol of Milvus over its port."""

import subprocess
import sys
from pathlib import Path

from tests.ports import wait_for


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """It listens; what it kept in the folder is there again."""
    command = [sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--data-dir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(port, process)
    return process
