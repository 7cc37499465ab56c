"""Starts services by fork, so that one interpreter imports for all of them: python -m
services.fork_server, which `tidemill up` runs.

One JSON request a line on stdin, one answer a line on stdout:

    {"start": "ingest", "log": "/path"}  {"pid": 123}   a process of its own, session and log too
    {"collect": 123}                     {"code": 0}    its exit code, once it has ended

It ends when stdin does; the services stay. It starts no thread, event loop or connection itself, so
that a fork is whole, and a child does what `python -m services NAME` does.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALONE = frozenset({"retriever", "ingest"})
"""Their libraries, of half a second to import, serve no other: they import them after the fork,
beside the others."""


def main() -> int:
    """Of the server until its end, and of each service."""
    # Nothing that is imported is garbage, and what is not collected stays shared after a fork.
    gc.disable()
    serve = importlib.import_module("services.__main__").main
    for request in requests():
        if "collect" in request:
            _, status = os.waitpid(int(request["collect"]), 0)
            answer(code=os.waitstatus_to_exitcode(status))
            continue
        name = str(request["start"])
        if name not in ALONE:
            importlib.import_module(f"services.{name}.app")
        gc.freeze()
        if child := os.fork():
            answer(pid=child)
            continue
        become(name, request["log"])
        code: int = serve([name])
        return code
    return 0


def requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def answer(**facts: int) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def become(name: str, log: str) -> None:
    """What a new process has of its own: a session, a name in `ps`, its log."""
    os.setsid()
    Path("/proc/self/comm").write_text(name)
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(1, 2)
    gc.enable()


if __name__ == "__main__":
    sys.exit(main())
