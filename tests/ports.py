"""Ports that are free, and ports that somebody begins to listen on."""

import random
import socket
import subprocess
import time

OFFSETS = (*range(4), *range(10, 17), *range(30, 37))
"""What a mesh takes, above its first port."""
START_SECONDS = 60.0


def free_port_base() -> int:
    while True:  # below the ports that the system gives to outgoing connections
        base = random.randrange(20_000, 32_000, 40)
        if all(is_free(base + offset) for offset in OFFSETS):
            return base


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the process listens there."""
    deadline = time.monotonic() + START_SECONDS
    while is_free(port):
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args} takes too long to start"
        time.sleep(0.05)
