"""tidemill rebuild: delete a store, or not, and have it again from the log."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO, TypeVar

import typer

from tidemill.bus.admin import create_topics
from tidemill.cli.context import JSON_OPTION, Context, open_context, run
from tidemill.cli.control import read_status
from tidemill.cli.output import CommandFailed
from tidemill.cli.probes import Probes
from tidemill.cli.processes import BROKER, broker_process, child_environment, log_file
from tidemill.faults import Fault
from tidemill.settings import SERVICES

READY_SECONDS = 120.0
BROKER_SECONDS = 60.0
STOP_SECONDS = 30.0
STDOUT_LIMIT = 16 * 1024 * 1024
Facts = dict[str, Any]
T = TypeVar("T")


def rebuild(
    services: list[str] = typer.Argument(None, help="Services whose stores are built again."),
    everything: bool = typer.Option(False, "--all", help="All seven, one after the other."),
    check: bool = typer.Option(
        False, "--check", help="Build beside the store in use and compare; exchange nothing."
    ),
    json_mode: bool = JSON_OPTION,
) -> None:
    """Build a service's store again from the log and exchange it. Exit code 1 when --check finds
    a difference."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        names = chosen(services or [], everything)
        async with broker_running(context):
            found = [await rebuild_one(context, name, check) for name in names]
        report(context, found, check)

    run(context, work())


def chosen(names: Sequence[str], everything: bool) -> Sequence[str]:
    """In the order of the catalogue of services."""
    unknown = sorted(set(names) - set(SERVICES))
    if unknown or bool(names) == everything:
        hint = f"name some of {', '.join(SERVICES)}, or say --all"
        raise CommandFailed("INVALID_ARGUMENT", hint, 2)
    return [name for name in SERVICES if everything or name in names]


@asynccontextmanager
async def broker_running(context: Context) -> AsyncIterator[None]:
    """The broker that answers, or the embedded one for as long as the command runs."""
    settings = context.settings
    if await answers(settings.kafka_address):
        yield
        return
    if settings.kafka:
        hint = f"no broker answers at {settings.kafka}; start it, or change TIDEMILL_KAFKA"
        raise CommandFailed("DEPENDENCY_UNAVAILABLE", hint)
    if not (settings.home / "broker").exists():
        hint = f"no log under {settings.home}; is TIDEMILL_HOME the mesh's folder?"
        raise CommandFailed("LOG_NOT_FOUND", hint, 2)
    context.output.note("  starting the broker for as long as this takes")
    path = log_file(settings, BROKER)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *broker_process(settings).command,
            stdout=log,
            stderr=log,
            env=child_environment(settings),
        )
    try:
        await wait_for_broker(settings.kafka_address)
        yield
    finally:
        await end(child)


async def answers(address: str) -> bool:
    try:
        await create_topics(address)
    except Fault:
        return False
    return True


async def wait_for_broker(address: str) -> None:
    deadline = time.monotonic() + BROKER_SECONDS
    while not await answers(address):
        if time.monotonic() > deadline:
            raise CommandFailed("START_TIMEOUT", "the broker did not start; see its log")
        await asyncio.sleep(0.2)


async def end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), STOP_SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()


async def rebuild_one(context: Context, name: str, check: bool) -> Facts:
    """What the child told at its end; the service is up again when it was before."""
    started = time.monotonic()
    context.output.note(f"  {name}: reading the log")
    running = pid_of(context, name)
    with open_log(context, name) as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.rebuild", name, *(["--check"] if check else [])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=STDOUT_LIMIT,
            env=child_environment(context.settings),
        )
    try:
        facts = await follow(context, name, child)
    finally:
        await end(child)
    if running and not check:
        await wait_ready(context, name)
    seconds = round(time.monotonic() - started, 2)
    return {"service": name, "seconds": seconds, **facts}


def open_log(context: Context, name: str) -> BinaryIO:
    path = log_file(context.settings, f"rebuild-{name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError:
        hint = f"{path} cannot be written; is {context.settings.home} read-only?"
        raise CommandFailed("HOME_NOT_WRITABLE", hint, 2) from None


async def follow(context: Context, name: str, child: asyncio.subprocess.Process) -> Facts:
    """Reads the child's lines; stops the service when its new store is built."""
    async for line in piped(child.stdout):
        said = json.loads(line)
        match said.pop("event"):
            case "progress":
                context.output.note(f"  {name}: {said['events']} events")
            case "built":
                context.output.note(f"  {name}: exchanging the store")
                stop_service(context, name)
                piped(child.stdin).write(b"stopped\n")
            case "done":
                return dict(said)
            case "failed":
                status = 2 if await child.wait() == 2 else 1
                raise CommandFailed(said["reason"], f"{name}: {said['hint']}", status)
    log = log_file(context.settings, f"rebuild-{name}")
    raise CommandFailed("REBUILD_DIED", f"{name}: its store is as it was; see {log}")


def piped(stream: T | None) -> T:
    """A stream that was asked for when the child was started."""
    if stream is None:
        raise RuntimeError("the child was started without a pipe")
    return stream


def pid_of(context: Context, name: str) -> int:
    """0 when the mesh on this machine does not run the service."""
    supervisor, states = read_status(context.settings)
    found = [s.pid for s in states if s.name == name and s.state == "running"]
    return found[0] if supervisor and found else 0


def stop_service(context: Context, name: str) -> None:
    """The supervisor starts it again; it then waits for its store."""
    pid = pid_of(context, name)
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


async def wait_ready(context: Context, name: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    async with context.channels() as channels:
        probes = Probes(context.settings, context.identity(), channels)
        while not await probes.is_ready(name):
            if time.monotonic() > deadline:
                log = log_file(context.settings, name)
                raise CommandFailed("START_TIMEOUT", f"{name} does not answer; see {log}")
            await asyncio.sleep(0.2)


def report(context: Context, found: Sequence[Facts], check: bool) -> None:
    """Both hashes of every part; exit code 1 when a check found a difference."""
    context.output.document({"check": check, "rebuilt": list(found)})
    context.output.table(
        ("service", "part", "before", "after"), [r for f in found for r in rows(f)]
    )
    for facts in found:
        context.output.line(summary(facts, check))
    if check and not all(facts["same"] for facts in found):
        raise typer.Exit(1)


def rows(facts: Facts) -> list[tuple[str, str, str, str]]:
    before, after = facts["before"], facts["after"]
    names = sorted(before.keys() | after.keys())
    return [
        (facts["service"], name, before.get(name, "-")[:16], after.get(name, "-")[:16])
        for name in names
    ]


def summary(facts: Facts, check: bool) -> str:
    if not facts["before"]:
        verdict = "there was no store"
    else:
        verdict = "the same content" if facts["same"] else "OTHER CONTENT"
    missing = f", {facts['published']} missing events to publish" if facts["published"] else ""
    again = f", {facts['left']} partitions to read again" if facts["left"] else ""
    done = "checked" if check else "rebuilt"
    events = f"{facts['events']} events in {facts['seconds']} s"
    return f"{facts['service']} {done}: {verdict}, {events}{missing}{again}."
