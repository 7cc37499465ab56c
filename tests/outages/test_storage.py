"""Rows that cannot be written: locked, full, or on a failing disk. Events wait, health says so,
and work goes on by itself."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.core.parts import effects, recording
from tests.outages.small_disk import fill
from tests.outages.zombies import Pair, pair_of
from tests.waiting import eventually as until
from tidemill.bus.dead_letters.actions import list_dead_letters
from tidemill.runtime import Runtime

LOCKED_SECONDS = 8.0


async def lock_exclusively(file: Path, seconds: float) -> None:
    """As another process does that holds BEGIN EXCLUSIVE."""
    code = (
        "import sqlite3, sys, time\n"
        "rows = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "rows.execute('BEGIN EXCLUSIVE'); print('locked', flush=True)\n"
        "time.sleep(float(sys.argv[2])); rows.execute('ROLLBACK')\n"
    )
    holder = await asyncio.create_subprocess_exec(
        "python3", "-c", code, str(file), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout
    assert await holder.stdout.readline() == b"locked\n"


async def submit(outside: Any, name: str, count: int) -> list[str]:
    ids = [f"{name}-{number}" for number in range(count)]
    for event_id in ids:
        await outside.submit("doc", event_id=event_id)
    return ids


def serving(runtime: Runtime, wanted: bool) -> Any:
    async def said() -> bool:
        return runtime.server.serving is wanted

    return said


def applied(runtime: Runtime, ids: list[str]) -> Any:
    async def done() -> bool:
        return set(await effects(runtime)) == set(ids)

    return done


@pytest.mark.timeout(90)
async def test_a_locked_database_is_told_and_stood(
    wire: Any, run_service: Any, eventually: Any
) -> None:
    async with run_service("ingest", wire.outside.settings, recording) as runtime:
        ids = await submit(wire.outside, "before", 3)
        await eventually(applied(runtime, ids))
        file = wire.outside.settings.home / "ingest" / "rows.db"
        await lock_exclusively(file, LOCKED_SECONDS)
        ids += await submit(wire.outside, "locked", 3)
        await eventually(serving(runtime, False), LOCKED_SECONDS)
        assert set(await effects(runtime)) == set(ids[:3])
        await eventually(applied(runtime, ids), LOCKED_SECONDS + 20)
        await eventually(serving(runtime, True))
        assert sorted(await effects(runtime)) == sorted(ids)
    assert await list_dead_letters(wire.proxy.address) == []


@pytest.mark.timeout(90)
async def test_a_full_disk_under_the_rows_is_told_and_stood(
    wire: Any, run_service: Any, eventually: Any, small_disk: Path
) -> None:
    """A real file system without space; the offsets stay, and nothing is started again."""
    rows = f"sqlite+aiosqlite:///{small_disk}/rows.db"
    settings = wire.outside.settings.model_copy(update={"db": rows})
    async with run_service("ingest", settings, recording) as runtime:
        ids = await submit(wire.outside, "before", 3)
        await eventually(applied(runtime, ids))
        with closing(sqlite3.connect(small_disk / "rows.db")) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ballast = fill(small_disk)
        ids += await submit(wire.outside, "full", 20)
        await eventually(serving(runtime, False), 30)
        assert len(await effects(runtime)) < len(ids)
        ballast.unlink()
        await eventually(applied(runtime, ids), 30)
        await eventually(serving(runtime, True))
        assert sorted(await effects(runtime)) == sorted(ids)
    assert await list_dead_letters(wire.proxy.address) == []


@pytest.mark.timeout(150)
@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="strace is not installed")
@pytest.mark.parametrize(("call", "first"), [("fdatasync", 20), ("pwrite64", 60)])
async def test_failing_reads_and_writes_of_a_disk_lose_and_double_nothing(
    tmp_path: Path, call: str, first: int
) -> None:
    """EIO at some calls of each thread of a service's process: it neither dies nor skips."""
    inject = f"inject={call}:error=EIO:when={first}..{first + 3}"
    async with pair_of(tmp_path) as alone:
        alone.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
        await alone.send(60)
        await until(alone.all_applied)
        await until(alone.all_published)
        assert sorted(alone.effects()) == sorted(alone.sent)
        assert len(await alone.chunked_ids()) == len(alone.sent)
        assert alone.processes[0].poll() is None
        assert "disk I/O" in log_of(alone) or "DEPENDENCY_UNAVAILABLE" in log_of(alone)


def log_of(pair: Pair) -> str:
    return (pair.home.parent / "child-0.log").read_text()
