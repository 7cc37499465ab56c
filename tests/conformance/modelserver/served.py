"""What the suite needs of a running model server: its process, its facts, raw requests."""

import json
import queue
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc.aio as triton

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
RECOVERY_S = 90.0


@dataclass
class Served:
    """One supervisor in a child process."""

    home: Path
    grpc_port: int
    metrics_port: int
    process: "subprocess.Popen[str] | None" = field(default=None, repr=False)
    _lines: "queue.Queue[str]" = field(default_factory=queue.Queue, repr=False)
    _ready: "psutil.Process | None" = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def repository(self) -> Path:
        return self.home / "modelserver" / "repository"

    def start(self) -> None:
        """Starts the supervisor and waits until it says that it is ready."""
        with (self.home / "supervisor.log").open("a") as log:
            self.process = subprocess.Popen(
                command(self.home, self.grpc_port, self.metrics_port),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.wait_ready(START_TIMEOUT_S)

    def wait_ready(self, timeout: float) -> None:
        """Waits for the next line that says `ready`."""
        assert self._lines.get(timeout=timeout) == f"ready {self.address}\n"
        self._ready = self.triton()

    def settle(self) -> None:
        """When the server has died of itself, waits for its replacement: that is one failure, and
        not one of every test that follows."""
        while self._ready is not None and not self._ready.is_running():
            self.wait_ready(RECOVERY_S)
        while not self._lines.empty():
            self._lines.get()

    def logs(self) -> dict[str, str]:
        """The ends of what its processes wrote."""
        files = (self.home / "supervisor.log", self.home / "modelserver" / "triton.log")
        return {f.name: "\n".join(f.read_text(errors="replace").splitlines()[-40:]) for f in files}

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.put(line)

    def triton(self) -> psutil.Process:
        """The server's own process."""
        return psutil.Process(int((self.home / "modelserver" / "triton.pid").read_text()))

    def stub(self, model: str) -> psutil.Process:
        """The process that runs one model."""
        for child in self.triton().children():
            if f"{model}_0_0" in child.cmdline():
                return child
        raise AssertionError(f"no process serves {model}")

    def shared_memory(self) -> list[Path]:
        """Regions of this server that are still there."""
        return list(Path("/dev/shm").glob(f"tidemill-{self.grpc_port}-*"))

    def metric(self, name: str) -> float:
        """A metric of the llm model, as Prometheus would read it."""
        address = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


def command(home: Path, grpc_port: int, metrics_port: int) -> list[str]:
    """The supervisor's command line."""
    ports = ["--grpc-port", str(grpc_port), "--metrics-port", str(metrics_port)]
    return [sys.executable, "-m", "tidemill.modelserver", "--home", str(home), *ports]


def wait_until(holds: Callable[[], bool], timeout: float) -> None:
    """Waits for a condition of another process."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


async def raw(address: str, prompt: str, sampling: dict[str, Any]) -> AsyncGenerator[Any, None]:
    """A streamed request with any sampling parameters: yields (result, error) pairs."""
    inputs = [
        _tensor("text_input", "BYTES", prompt.encode()),
        _tensor("sampling_parameters", "BYTES", json.dumps(sampling).encode()),
        *(_tensor(name, "BOOL", True) for name in ("stream", "exclude_input_in_output")),
    ]

    async def one() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "llm", "inputs": inputs, "enable_empty_final_response": True}

    async with triton.InferenceServerClient(address) as client:
        stream, over = client.stream_infer(one()), False
        try:
            async for result, error in stream:
                over = bool(error) or is_final(result)
                yield result, error
            # Read to its end: Triton 2.51 can crash on a cancellation that meets it.
        finally:
            if not over:
                stream.cancel()


def is_final(result: Any) -> bool:
    """Whether nothing comes after it."""
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def _tensor(name: str, kind: str, value: object) -> Any:
    tensor = triton.InferInput(name, [1], kind)
    tensor.set_data_from_numpy(np.array([value], dtype=object if kind == "BYTES" else bool))
    return tensor
