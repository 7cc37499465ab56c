"""A process that has imported everything and forks services and brokers: a start costs
milliseconds instead of seconds. It starts no thread, loop or gRPC itself, so that a fork is whole.

One JSON request a line on stdin: role, arguments, environment, log, traced. The answer is the
child's process id. A traced child waits until a tracer has attached.
"""

import asyncio
import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
TRACER_SECONDS = 20.0
BROKER = "broker"


def load(roles: list[str]) -> None:
    """Import what the roles run."""
    # kio imports hypothesis wherever it is installed.
    sys.modules["hypothesis"] = None  # type: ignore[assignment]
    modules = {"services.__main__", "tidemill.broker.__main__", "tidemill.broker.embedded"}
    modules |= {f"services.{role}.app" for role in roles if role != BROKER}
    if "retriever" in roles:
        modules |= {"milvus_lite.server_manager", "milvus_lite.adapter.grpc.server"}
    for name in sorted(modules):
        importlib.import_module(name)


def serve() -> None:
    """Forks until stdin closes; then every child ends with this process."""
    # Nobody here waits for children, so none may stay as a zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getpid()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(child(request, parent))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def child(request: dict[str, Any], parent: int) -> int:
    """Runs the role in this forked process; returns its exit code."""
    code: Any = 70
    try:
        become(request, parent)
        code = main_of(request["role"], request["arguments"])()
    except SystemExit as left:
        code = left.code
    except BaseException as error:  # nothing may return into the zygote's loop
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0


def become(request: dict[str, Any], parent: int) -> None:
    """Own session, log and environment; ends with the zygote; waits for its tracer."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(71)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in [n for n in os.environ if n.startswith(("TIDEMILL_", "OTEL_"))]:
        del os.environ[name]
    os.environ.update(request["environment"])
    signal.signal(signal.SIGUSR1, tell_tasks)
    if request["traced"]:
        await_tracer()


def tell_tasks(*_: object) -> None:
    """Where every task waits, into the log: asked for when a mesh never comes to rest."""
    for task in asyncio.all_tasks():
        # A task's own stack ends at its outermost frame; what it awaits leads further in.
        waits: Any = task.get_coro()
        while waits is not None:
            frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
            if frame is not None:
                place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                sys.stderr.write(f"  {place} {frame.f_code.co_qualname}\n")
            waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
        sys.stderr.write(f"{task.get_name()} waits\n")
    sys.stderr.flush()


def await_tracer() -> None:
    end = time.monotonic() + TRACER_SECONDS
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if time.monotonic() > end:
            raise TimeoutError("no tracer came")
        time.sleep(0.002)


def main_of(role: str, arguments: list[str]) -> Callable[[], int]:
    if role == BROKER:
        from tidemill.broker.__main__ import main as broker

        return lambda: broker(arguments)
    from services.__main__ import main as service

    sys.argv = ["services", role, *arguments]
    return service


if __name__ == "__main__":
    load(sys.argv[1:])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    serve()
