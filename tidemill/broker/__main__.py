"""The broker as a process: `python -m tidemill.broker --data-dir DIR`."""

import argparse
import asyncio
import contextlib
import logging
import resource
import signal
import sys
from pathlib import Path

import structlog

from tidemill.broker.settings import BrokerSettings, FsyncPolicy, GroupLimits

CANNOT_START = 2


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code, 2 if it could not start."""
    settings = _settings(_parser().parse_args(arguments))
    _log_to_stderr()
    _allow_many_files()
    _hide_hypothesis()
    from tidemill.broker.errors import StartupRefused

    try:
        asyncio.run(_serve(settings))
    except StartupRefused as refused:
        sys.stderr.write(f"tidemill.broker: {refused.reason}: {refused.advice}\n")
        return CANNOT_START
    return 0


async def _serve(settings: BrokerSettings) -> None:
    from tidemill.broker.embedded import EmbeddedBroker

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with EmbeddedBroker(settings) as broker:
        sys.stdout.write(f"ready {broker.bootstrap}\n")
        sys.stdout.flush()
        await stop.wait()


def _hide_hypothesis() -> None:
    """kio imports hypothesis wherever it is installed, which takes longer than all the rest."""
    sys.modules["hypothesis"] = None  # type: ignore[assignment]


def _parser() -> argparse.ArgumentParser:
    groups = GroupLimits()
    parser = argparse.ArgumentParser(
        prog="python -m tidemill.broker",
        description="A single-node broker that speaks the Kafka protocol, for laptops and tests.",
    )
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder of the log; made if missing")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=9092, help="port, 0 for any (default %(default)s)")
    add("--advertised", type=_address, metavar="HOST:PORT", help="what clients are told")
    add("--allow-remote", action="store_true", help="allow an address others can reach")
    add("--fsync", type=FsyncPolicy, choices=list(FsyncPolicy), default=FsyncPolicy.INTERVAL)
    add("--fsync-interval-ms", type=int, default=1_000, metavar="N")
    add("--auto-create-topics", action="store_true", help="create topics when asked about")
    add("--group-initial-delay-ms", type=int, default=groups.initial_delay_ms, metavar="N")
    add("--group-min-session-ms", type=int, default=groups.min_session_ms, metavar="N")
    add("--retention-check-ms", type=int, default=5_000, metavar="N")
    return parser


def _settings(options: argparse.Namespace) -> BrokerSettings:
    return BrokerSettings(
        data_dir=options.data_dir,
        host=options.host,
        port=options.port,
        advertised=options.advertised,
        allow_remote=options.allow_remote,
        fsync=options.fsync,
        fsync_interval_ms=options.fsync_interval_ms,
        auto_create_topics=options.auto_create_topics,
        retention_check_ms=options.retention_check_ms,
        groups=GroupLimits(
            initial_delay_ms=options.group_initial_delay_ms,
            min_session_ms=options.group_min_session_ms,
        ),
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError("expected HOST:PORT")
    return host, int(port)


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _allow_many_files() -> None:
    """Each active segment and connection is an open file; the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
