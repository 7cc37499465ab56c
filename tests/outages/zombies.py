"""Rounds with a frozen process: another takes over, the frozen one wakes, its late writes are
counted."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import BrokerProcess, token
from tests.integration.core.conftest import Outside, producing
from tests.outages.child import INSIDE, POINTS, RELAY
from tests.ports import free_port_base
from tests.waiting import eventually as until
from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked
from tidemill.bus.admin import create_topics
from tidemill.bus.envelope import event_headers
from tidemill.bus.tables import OutboxRow
from tidemill.bus.unit import outbox_values
from tidemill.clock import SystemClock
from tidemill.db import open_database
from tidemill.settings import MeshSettings

ROOT = Path(__file__).parents[2]
SESSION_MS = 1_500
EVENTS = 24


@dataclass
class Pair:
    """Two processes of one service on one database, and someone outside."""

    settings: MeshSettings
    outside: Outside
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.settings.home

    def start(self, *prefix: str) -> None:
        """prefix: a command that runs the process, such as strace with its options."""
        place = [str(self.home), str(free_port_base()), self.settings.kafka]
        command = [*prefix, sys.executable, "-m", "tests.outages.child", *place]
        environment = {**os.environ, "TIDEMILL_KAFKA_SESSION_MS": str(SESSION_MS)}
        with (self.home.parent / f"child-{len(self.processes)}.log").open("ab") as log:
            child = subprocess.Popen(
                command, cwd=ROOT, stderr=log, stdout=log, env=environment, start_new_session=True
            )
        self.processes.append(child)

    def end(self) -> None:
        for process in self.processes:
            # The whole session: a killed strace leaves its process running.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def send(self, count: int) -> None:
        """Events of many documents, so that both processes get some."""
        for _ in range(count):
            number = len(self.sent)
            self.sent.append(f"event-{number}")
            await self.outside.submit(f"doc-{number % 29}", event_id=f"event-{number}")

    def effects(self) -> list[str]:
        file = self.home / "ingest" / "rows.db"
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as rows:
            return [row[0] for row in rows.execute("SELECT event_id FROM effects")]

    def outbox(self) -> int:
        file = self.home / "ingest" / "rows.db"
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as rows:
            return int(rows.execute("SELECT count(*) FROM outbox").fetchone()[0])

    async def all_applied(self) -> bool:
        """A rebalance or a start may be under way: then there is no table yet."""
        try:
            return set(await asyncio.to_thread(self.effects)) >= set(self.sent)
        except sqlite3.OperationalError:
            return False

    async def all_published(self) -> bool:
        return await asyncio.to_thread(self.outbox) == 0

    async def frozen(self) -> subprocess.Popen[bytes] | None:
        for process in self.processes:
            if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                return process
        return None

    async def freeze_unlocked(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process at a moment at which it does not hold the rows' write lock."""

        async def stopped() -> bool:
            process.send_signal(signal.SIGSTOP)
            if await asyncio.to_thread(self.can_write):
                return True
            process.send_signal(signal.SIGCONT)
            return False

        await until(stopped)

    def can_write(self) -> bool:
        file = self.home / "ingest" / "rows.db"
        with closing(sqlite3.connect(file, isolation_level=None, timeout=0.5)) as rows:
            try:
                rows.execute("BEGIN IMMEDIATE")
                rows.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def refused_commits(self) -> int:
        logs = (self.home.parent / f"child-{n}.log" for n in range(len(self.processes)))
        return sum(log.read_text().count("OffsetCommit failed") for log in logs)

    async def chunked_ids(self) -> set[str]:
        records = await self.outside.read(topics.DOCUMENTS_CHUNKED.name)
        return {dict(record.headers)["ce_id"].decode() for record in records}

    async def add_row(self, event_id: str) -> None:
        """An event that waits in the outbox, as a caller's commit leaves it."""
        headers = event_headers(topics.DOCUMENTS_CHUNKED, event_id, "ingest", SystemClock().now())
        name = topics.DOCUMENTS_CHUNKED.name
        row = OutboxRow(**outbox_values(name, "acme/late", DocumentChunked(), headers))
        url = self.settings.database_url("ingest")
        async with open_database(url) as database, database.transaction() as session:
            session.add(row)


async def freeze_round(pair: Pair, point: str, number: int) -> None:
    """One process freezes at the point, the other goes on; then the first wakes and works."""
    (pair.home / f"freeze-{point}").touch()
    await pair.send(EVENTS)
    zombie = await until(pair.frozen)
    (other,) = [process for process in pair.processes if process is not zombie]
    if point == INSIDE:
        # It holds the rows' write lock: the other waits for it and must stand that.
        await asyncio.sleep(SESSION_MS / 1000 * 2)
    else:
        await until(pair.all_applied)
    if point == RELAY:
        await wake_before_a_fresh_row(pair, zombie, other, f"late-{number}")
    zombie.send_signal(signal.SIGCONT)
    await until(pair.all_applied)
    await alone(pair, zombie, other)


async def wake_before_a_fresh_row(pair: Pair, zombie: Any, other: Any, event_id: str) -> None:
    """The zombie's delete comes when the outbox holds a row that nobody published yet."""
    await until(pair.all_published)
    await pair.freeze_unlocked(other)
    await pair.add_row(event_id)
    zombie.send_signal(signal.SIGCONT)
    await until(pair.all_published)
    other.send_signal(signal.SIGCONT)
    assert event_id in await pair.chunked_ids(), "the zombie deleted what it had not published"


async def alone(pair: Pair, zombie: Any, other: Any) -> None:
    """The process that was frozen does all the work while the other is frozen."""
    await pair.freeze_unlocked(other)
    await pair.send(4)
    try:
        await until(pair.all_applied)
    finally:
        other.send_signal(signal.SIGCONT)


@asynccontextmanager
async def pair_of(folder: Path) -> AsyncIterator[Pair]:
    """A broker and someone outside; the caller starts the processes."""
    options = ("--group-min-session-ms", "500")
    broker = await asyncio.to_thread(BrokerProcess(folder / "broker", options=options).start)
    try:
        await create_topics(broker.bootstrap)
        settings = MeshSettings(home=folder / "home", kafka=broker.bootstrap)
        settings.home.mkdir()
        async with producing(broker.bootstrap) as producer:
            pair = Pair(settings, Outside(broker.bootstrap, settings, token, producer))
            try:
                yield pair
            finally:
                pair.end()
    finally:
        broker.kill()


async def zombie_rounds(
    folder: Path, rounds: int = len(POINTS), points: Sequence[str] = POINTS
) -> dict[str, int]:
    """Freezes a process `rounds` times, at each point in turn; about five seconds a round.

    zombie_writes: effects beyond one an event; what is lost never ends a round.
    """
    async with pair_of(folder) as pair:
        pair.start()
        pair.start()
        await pair.send(EVENTS)
        await until(pair.all_applied)
        for number in range(rounds):
            await freeze_round(pair, points[number % len(points)], number)
        await until(pair.all_published)
        applied = await asyncio.to_thread(pair.effects)
        published = await pair.chunked_ids()
        late = {f"late-{n}" for n in range(rounds) if points[n % len(points)] == RELAY}
        assert late <= published
        assert pair.refused_commits() > 0, "no late commit of an offset was ever refused"
        assert len(published - late) == len(pair.sent), "an effect without its event"
    return {"zombie_writes": len(applied) - len(set(applied)), "rounds": rounds}
