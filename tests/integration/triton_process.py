"""A supervised model server in a child process, as `tidemill up` runs it."""

import subprocess
import sys
from pathlib import Path

import psutil

STUB = "triton_python_backend_stub"


class Triton:
    """Ready once constructed; stop() waits for its end."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "tidemill.modelserver", "--home", str(home)]
        with (home / "triton.err").open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--grpc-port", str(port)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"the model server did not start: {line!r}"

    def kill_model(self, name: str) -> None:
        """kill -9 of one model's process, as the kernel does when memory runs out."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if STUB in child.name() + " ".join(child.cmdline()[:1]) and name in child.cmdline()[1]:
                child.kill()
                return
        raise AssertionError(f"no process serves {name}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        if self.process.stdout:
            self.process.stdout.close()
