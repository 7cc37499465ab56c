"""tidemill setup, up, down, status, topics: the mesh itself."""

import asyncio
import shutil
import time
from dataclasses import asdict

import typer

from tidemill.cli.consumers import consumer_states
from tidemill.cli.context import JSON_OPTION, Context, open_context, run
from tidemill.cli.control import read_status, start_supervisor, stop_supervisor
from tidemill.cli.output import CommandFailed
from tidemill.cli.processes import mesh_processes
from tidemill.cli.readiness import wait_until_ready
from tidemill.names import SERVICES

START_SECONDS = 240.0
MIN_FREE_BYTES = 500 * 1024 * 1024


def setup(json_mode: bool = JSON_OPTION) -> None:
    """Install Triton and convert the default weights; a second run changes nothing."""
    from tidemill.modelserver.install import install
    from tidemill.modelserver.packages import InstallFailed

    context = open_context(json_mode=json_mode)

    async def work() -> None:
        try:
            install(context.settings.home, lambda text: context.output.note(text))
        except InstallFailed as failed:
            raise CommandFailed(failed.reason, str(failed)) from None
        context.output.document({"home": str(context.settings.home), "ready": True})
        context.output.line("Set up. Next: tidemill up")

    run(context, work())


def up(
    json_mode: bool = JSON_OPTION,
    timeout: float = typer.Option(START_SECONDS, help="Seconds to wait until all is ready."),
) -> None:
    """Start broker, Triton and the seven services, and wait until each answers."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        seconds = await start_mesh(context, timeout)
        report_addresses(context, seconds)

    run(context, work())


async def start_mesh(context: Context, timeout: float = START_SECONDS) -> float:
    """Start what is not running and wait; returns the seconds it took."""
    check_installation(context)
    started = time.monotonic()
    pid, _ = read_status(context.settings)
    if not pid:
        start_supervisor(context.settings)
    try:
        await wait_until_ready(context, timeout)
    except CommandFailed:
        # Half a mesh helps nobody; one that was running before is left alone.
        if not pid:
            stop_supervisor(context.settings)
        raise
    return time.monotonic() - started


def check_installation(context: Context) -> None:
    from tidemill.modelserver.install import locate

    home = context.settings.home
    if not context.settings.triton and not locate(home).binary.exists():
        raise CommandFailed("NOT_SET_UP", "run `tidemill setup` first", 2)
    home.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(home).free < MIN_FREE_BYTES:
        raise CommandFailed("STORAGE_FULL", f"less than 500 MB free under {home}")


def report_addresses(context: Context, seconds: float) -> None:
    processes = mesh_processes(context.settings)
    rows = [(p.name, p.address) for p in processes]
    context.output.document(
        {"seconds": round(seconds, 2), "processes": [{"name": n, "address": a} for n, a in rows]}
    )
    context.output.table(("process", "listens on"), rows)
    context.output.line(f"Ready after {seconds:.1f} s. Next: tidemill submit PATH, tidemill ask")


def down(json_mode: bool = JSON_OPTION) -> None:
    """Stop the mesh; its state stays."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        stopped = stop_supervisor(context.settings)
        context.output.document({"stopped": stopped})
        context.output.line("Stopped." if stopped else "Nothing was running.")

    run(context, work())


def status(json_mode: bool = JSON_OPTION) -> None:
    """Show each process, whether it answers a real request, and consumers that wait or stopped.
    Exit code 1 when a process does not answer or a consumer does not go on."""
    context = open_context(json_mode=json_mode)

    async def work() -> None:
        rows = await probe_all(context)
        names = [str(row["name"]) for row in rows if row["name"] in SERVICES]
        consumers = await consumer_states(context.settings, names)
        running = bool(rows) and all(row["ready"] for row in rows)
        running = running and all(each.is_well for each in consumers)
        context.output.document(
            {"running": running, "processes": rows, "consumers": [asdict(c) for c in consumers]}
        )
        cells = [
            (r["name"], r["state"], "yes" if r["ready"] else "no", r["address"], r["restarts"])
            for r in rows
        ]
        context.output.table(("process", "state", "answers", "listens on", "restarts"), cells)
        for each in consumers:
            if not each.is_well:
                context.output.line(each.describe())
        if not rows:
            context.output.line("Nothing is running. Next: tidemill up")
        if not running:
            raise typer.Exit(1)

    run(context, work())


async def probe_all(context: Context) -> list[dict[str, object]]:
    from tidemill.cli.probes import Probes

    pid, states = read_status(context.settings)
    if not pid:
        return []
    async with context.channels() as channels:
        probes = Probes(context.settings, context.identity(), channels)
        ready = await asyncio.gather(*(probes.is_ready(state.name) for state in states))
    return [asdict(state) | {"ready": ok} for state, ok in zip(states, ready, strict=True)]


def topic_rows(created: set[str], changed: set[str]) -> list[dict[str, object]]:
    """The catalogue; which topics were created, and which keep records for another time now."""
    from tidemill.topics import CATALOGUE

    return [
        {
            "topic": t.name,
            "message": t.message.DESCRIPTOR.name,
            "owner": t.owner,
            "partitions": t.partitions,
            "write_scope": t.write_scope or "",
            "dead_letters": t.dead_letter_name,
            "created": t.name in created,
            "retention_changed": t.name in changed,
        }
        for t in CATALOGUE
    ]


def topics(
    json_mode: bool = JSON_OPTION,
    create: bool = typer.Option(False, "--create", help="Create the missing topics."),
    partitions: int = typer.Option(0, min=0, help="Of each new topic; 0 for the catalogue's."),
    retention: bool = typer.Option(
        False, "--retention", help="Keep records for as long as the catalogue says."
    ),
) -> None:
    """List the catalogue of topics; --create makes the missing ones on the broker."""
    from tidemill.bus.admin import align_retention, create_topics

    context = open_context(json_mode=json_mode)

    async def work() -> None:
        created: set[str] = set()
        if create:
            statuses = await create_topics(context.settings.kafka_address, partitions)
            created = {s.name for s in statuses if s.created}
        changed = await align_retention(context.settings.kafka_address) if retention else []
        rows = topic_rows(created, set(changed))
        context.output.document({"topics": rows})
        columns = ("topic", "message", "owner", "partitions", "write_scope")
        context.output.table(columns, [[row[c] for c in columns] for row in rows])
        if create:
            context.output.line(f"Created {len(created)} topics, dead letters included.")
        if retention:
            names = ", ".join(changed) or "none"
            context.output.line(f"Changed the retention of: {names}.")

    run(context, work())
