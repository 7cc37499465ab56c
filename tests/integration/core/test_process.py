"""A service as a process: what it prints, and how it ends when it may not start."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SECRET = "CANARY-7f3a text of a document"

LOG_PATHS = f"""
import asyncio, logging, sys, threading, warnings
import structlog
from tidemill.telemetry.logging import configure_logging

SECRET = {SECRET!r}
configure_logging("ingest", "INFO")
log = structlog.get_logger()
library = logging.getLogger("some.library")
own = logging.StreamHandler(sys.stderr)
logging.getLogger("library.with.its.own.handler").addHandler(own)

class Weird:
    def __repr__(self): return SECRET

try:
    raise ValueError(SECRET)
except ValueError as error:
    log.exception("ours")
    log.error("ours", exc_info=error)
    log.error("ours", exc_info=True)
    log.error("ours", exc_info=sys.exc_info())
    log.error("ours", error=error, value=Weird())
    library.exception("theirs %s", error)
    library.exception(f"theirs {{error}}")
    library.error(error)
    library.log(35, "odd level %s", SECRET)
    library.error("a mapping %(x)s", {{"x": SECRET}})
    library.error("a per cent sign 100% of {{}}", SECRET)
    logging.getLogger("library.with.its.own.handler").error("own %s", SECRET, exc_info=True)
warnings.warn(SECRET)

def fail(): raise ValueError(SECRET)
thread = threading.Thread(target=fail); thread.start(); thread.join()

class Unraisable:
    def __del__(self): raise ValueError(SECRET)
Unraisable()

async def main():
    async def lost(): raise ValueError(SECRET)
    task = asyncio.create_task(lost())
    await asyncio.sleep(0.01)
    del task
    loop = asyncio.get_running_loop()
    loop.call_soon(fail)
    await asyncio.sleep(0.01)
asyncio.run(main())
fail()
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_log_path_prints_the_text_of_an_exception_or_an_argument() -> None:
    result = run("-c", LOG_PATHS)
    lines = [line for line in result.stderr.splitlines() if line.startswith("{")]
    assert "CANARY" not in result.stderr + result.stdout
    events = [json.loads(line) for line in lines]
    assert len(events) >= 14
    assert {event["service"] for event in events} == {"ingest"}
    kinds = {event["event"] for event in events}
    assert {"ours", "library", "uncaught", "uncaught_in_thread", "unraisable"} <= kinds


@pytest.mark.parametrize("offset", [10, 30], ids=["gRPC", "metrics"])
def test_a_taken_port_ends_the_process_with_one_clear_line(
    tmp_path: Path, mesh_settings: Any, offset: int
) -> None:
    settings = mesh_settings(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port(offset)))
        taken.listen()
        result = run(
            "-c",
            "import asyncio, sys\n"
            "from tests.integration.core.child import serve\n"
            "from tidemill.faults import StartRefused\n"
            "from tidemill.settings import MeshSettings\n"
            "try: asyncio.run(serve(MeshSettings(), 0.0))\n"
            "except StartRefused as refused:\n"
            "    sys.stderr.write(f'{refused.reason}: {refused.hint}\\n'); sys.exit(2)\n",
            TIDEMILL_HOME=str(tmp_path),
            TIDEMILL_PORT_BASE=str(settings.port_base),
            TIDEMILL_KAFKA="127.0.0.1:1",
        )
    assert result.returncode == 2
    complaints = [x for x in result.stderr.splitlines() if "[info" not in x and x]
    assert len(complaints) == 1
    assert complaints[0].startswith("PORT_IN_USE: 127.0.0.1:")
    assert "Traceback" not in result.stderr
