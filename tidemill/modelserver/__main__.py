"""Command line of the model server: `python -m tidemill.modelserver --home DIR --grpc-port P`."""

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
from pathlib import Path

import structlog

from tidemill.modelserver import install, layout, process
from tidemill.modelserver.server import PortInUse, ServerFailed, Supervisor, choose_ports
from tidemill.modelserver.weights import WeightsFailed

OK, FAILED, UNUSABLE = 0, 1, 2


def main() -> int:
    """Serves until SIGTERM or SIGINT; exit code 2 says that this start cannot work as asked."""
    arguments = _arguments()
    _log_json()
    found = install.locate(arguments.home)
    if not found.binary.exists():
        return _refuse("NOT_INSTALLED", "run python -m tidemill.modelserver.install first")
    if arguments.prepare:
        return _prepare(arguments.home.resolve(), found)
    lock = _lock(arguments.home)
    if lock is None:
        return _refuse("ALREADY_RUNNING", f"another model server uses {arguments.home}")
    try:
        # Before the ports are looked at: an orphan of ours still holds them.
        process.end_orphan(layout.locate(arguments.home))
        ports = choose_ports(
            arguments.grpc_port, arguments.http_port, arguments.metrics_port, arguments.host
        )
        return asyncio.run(_serve(Supervisor(arguments.home.resolve(), found, ports)))
    except PortInUse as error:
        return _refuse("PORT_IN_USE", str(error))
    except WeightsFailed as error:
        return _refuse(error.reason, str(error))
    except ServerFailed as error:
        sys.stderr.write(f"SERVER_FAILED: {error}\n")
        return FAILED
    finally:
        os.close(lock)


def _prepare(home: Path, found: install.Installation) -> int:
    """For a Triton that is not ours, such as NVIDIA's on GPUs: the repository and nothing else."""
    try:
        _say(f"repository {layout.lay_out(home, found).repository}")
    except WeightsFailed as error:
        return _refuse(error.reason, str(error))
    return OK


async def _serve(supervisor: Supervisor) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await supervisor.run(stopping, lambda: _say(f"ready {supervisor.ports.address}"))
    return OK


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tidemill.modelserver")
    parser.add_argument("--home", type=Path, default=Path(".tidemill"))
    parser.add_argument(
        "--host", default=process.LOOPBACK, help="address to bind (docs/modelserver.md)"
    )
    parser.add_argument("--grpc-port", type=int, default=8001, help="0 takes a free one")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument(
        "--prepare", action="store_true", help="write the model repository, start nothing"
    )
    return parser.parse_args()


def _lock(home: Path) -> int | None:
    """One model server per home folder: two would write the same files."""
    folder = layout.locate(home).root
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _log_json() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _refuse(reason: str, message: str) -> int:
    sys.stderr.write(f"{reason}: {message}\n")
    return UNUSABLE


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
