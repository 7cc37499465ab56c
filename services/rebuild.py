"""Rebuild the store of one service: python -m services.rebuild NAME [--check].

One JSON object a line on standard output: progress, built, then done or failed. After "built" it
waits for a line on standard input, which says that the service was told to stop.
"""

import argparse
import asyncio
import importlib
import json
import sys
from dataclasses import asdict
from typing import Any

from tidemill.bus.replaying import ReplayFailed
from tidemill.faults import Fault, StartRefused
from tidemill.rebuild.log import LogCut
from tidemill.rebuild.run import Rebuild, Rebuilt
from tidemill.rebuild.stores import store_of
from tidemill.settings import SERVICES, MeshSettings
from tidemill.telemetry.logging import configure_logging


def tell(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def rebuild_of(service: str, settings: MeshSettings) -> Rebuild:
    store = store_of(service, settings)
    make_plan = importlib.import_module(f"services.{service}.rebuild").plan
    return Rebuild(
        service, settings, make_plan, store, lambda count: tell("progress", events=count)
    )


async def stopped() -> None:
    """An end of the input is a caller that went away: nothing is swapped then."""
    tell("built")
    if not await asyncio.to_thread(sys.stdin.readline):
        raise StartRefused("CANCELLED", "the caller went away before the swap")


async def work(service: str, check: bool) -> Rebuilt:
    rebuild = rebuild_of(service, MeshSettings())
    return await (rebuild.check() if check else rebuild.run(stopped))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.rebuild", description=__doc__)
    parser.add_argument("name", choices=SERVICES)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    configure_logging(f"rebuild-{arguments.name}", MeshSettings().log_level)
    try:
        rebuilt = asyncio.run(work(arguments.name, arguments.check))
    except (StartRefused, Fault, ReplayFailed, LogCut) as error:
        return failed(error)
    tell(
        "done",
        before=dict(rebuilt.before),
        after=dict(rebuilt.after),
        same=rebuilt.same,
        left=rebuilt.left,
        **asdict(rebuilt.counts),
    )
    return 0


def failed(error: Exception) -> int:
    """Tell why; exit code 2 when something must be changed before another try."""
    if isinstance(error, StartRefused):
        tell("failed", reason=error.reason, hint=error.hint)
        return 2
    if isinstance(error, ReplayFailed):
        tell("failed", reason="EVENT_NOT_APPLIED", hint=f"{error.place}: {error.reason}")
    elif isinstance(error, LogCut):
        tell("failed", reason="LOG_INCOMPLETE", hint=f"{error.topic} has lost its beginning")
    elif isinstance(error, Fault):
        tell("failed", reason=error.reason.value, hint=json.dumps(error.metadata))
    return 1


if __name__ == "__main__":
    sys.exit(main())
