"""Start services: python -m services [NAME ...]; without a name all seven in one process."""

import argparse
import asyncio
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tidemill.exits import exit_code
from tidemill.runtime import running
from tidemill.settings import SERVICES, MeshSettings
from tidemill.telemetry.logging import configure_logging

STOP_SECONDS = 9.5
FORCED_EXIT = 1


async def serve(names: list[str], settings: MeshSettings) -> None:
    """Run the services until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin_stop() -> None:
        if not stop.is_set():
            end_after(STOP_SECONDS)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin_stop)
    async with AsyncExitStack() as stack:
        for name in names:
            app = importlib.import_module(f"services.{name}.app")
            await stack.enter_async_context(running(name, settings, app.lifespan))
        await stop.wait()


def end_after(seconds: float) -> None:
    """What hangs, such as a thread inside a library, does not keep the process: a stop that takes
    too long ends as a kill does, from which every part recovers."""
    timer = threading.Timer(seconds, os._exit, [FORCED_EXIT])
    timer.daemon = True
    timer.start()


def main(arguments: Sequence[str] | None = None) -> int:
    """arguments: names of services; None for the command line's."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*SERVICES, []], metavar="NAME")
    names = parser.parse_args(arguments).names or list(SERVICES)
    settings = MeshSettings()
    configure_logging(names[0] if len(names) == 1 else "tidemill", settings.log_level)
    return exit_code(serve(names, settings))


if __name__ == "__main__":
    sys.exit(main())
