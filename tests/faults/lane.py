"""One mesh under fire: a broker and services on a home and ports of their own."""

import asyncio
import random
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from services.migrate import migrate
from tests.faults.load import Load, Mix, documents, learning
from tests.faults.nursery import Child, Nursery
from tests.faults.points import Point
from tests.ledger.audit import audit
from tests.ledger.books import SERVER
from tests.ledger.log import Log
from tests.ledger.quiet import NotQuiet, until_quiet
from tests.ledger.replay import differences, rewind, state_of
from tests.ledger.report import Report
from tests.ports import free_port_base
from tidemill.db.migrations import HEAD
from tidemill.settings import MeshSettings

BROKER = "broker"
SESSION_MS = 1_500
QUIET_SECONDS = 120.0
SETTLE_SECONDS = 3.0
"""What a service repairs by the clock, such as vectors after its start, it has repaired then."""

PLAIN = {
    "TIDEMILL_RETRIEVER_GRACE_SECONDS": "86400",
    "TIDEMILL_RETRIEVER_STAGED_GRACE_SECONDS": "86400",
    "TIDEMILL_EVALUATOR_RUN_POLL_SECONDS": "0.5",
    "TIDEMILL_EVALUATOR_RUN_SUITE_WAIT_SECONDS": "0",
    "TIDEMILL_EVALUATOR_RUN_RERUN_SECONDS": "0.1",
    "TIDEMILL_TRAINER_MIN_FEEDBACK": "10000",
    "TIDEMILL_TRAINER_MAX_EXAMPLES": "10000",
    "TIDEMILL_TRAINER_TRACKING": "off",
    "TIDEMILL_MONITOR_DRIFT_REFERENCE": "20",
    "TIDEMILL_MONITOR_DRIFT_WINDOW": "10",
    "TIDEMILL_MONITOR_DRIFT_PERMUTATIONS": "99",
}
"""Nothing is forgotten and nothing is trained while a lane runs."""


@dataclass(frozen=True)
class Plan:
    """What a lane consists of. burst: events for each kill point. replicas: second processes of
    some services, such as "monitor#2"; they need rows on a server."""

    name: str
    services: tuple[str, ...]
    mix: Mix
    burst: int
    replicas: tuple[str, ...] = ()

    @property
    def workers(self) -> tuple[str, ...]:
        return (*self.services, *self.replicas)

    @property
    def roles(self) -> tuple[str, ...]:
        return (BROKER, *self.workers)


def service_of(role: str) -> str:
    return role.partition("#")[0]


DOCUMENTS = Plan("documents", ("ingest", "embedder", "retriever"), documents, 12)
LEARNING = Plan(
    "learning", ("monitor", "trainer", "evaluator", "inference", "retriever"), learning, 60
)


class Broken(Exception):
    """The invariant does not hold, or the mesh never came to rest. report: what the audit said."""

    def __init__(self, why: str, report: Report | None = None) -> None:
        super().__init__(why)
        self.report = report


@dataclass
class Lane:
    """Use as an async context manager: everything runs, nothing was killed yet."""

    plan: Plan
    folder: Path
    nursery: Nursery
    seed: random.Random
    triton: str = ""
    # Of a PostgreSQL server's database for all rows; files in the home without it.
    rows: str = ""
    children: dict[str, Child] = field(default_factory=dict)
    bursts: set["asyncio.Task[None]"] = field(default_factory=set)
    deaths: list[str] = field(default_factory=list)
    audits: int = 0

    async def __aenter__(self) -> "Lane":
        self._stack = AsyncExitStack()
        self.folder.mkdir(parents=True, exist_ok=True)
        base = free_port_base()
        self.settings = MeshSettings(
            home=self.folder / "home",
            port_base=base,
            kafka=f"127.0.0.1:{base}",
            kafka_session_ms=SESSION_MS,
            triton=self.triton or "127.0.0.1:1",
            db=self.rows,
        )
        self.ports = {role: free_port_base() for role in self.plan.replicas}
        await self._make_tables()
        self.load = await self._stack.enter_async_context(
            Load(self.settings, self.plan.mix, self.seed)
        )
        self.log = Log(self.settings.kafka_address)
        for role in self.plan.roles:
            await self.start(role)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.bursts:
            task.cancel()
        await asyncio.gather(*self.bursts, return_exceptions=True)
        for child in self.children.values():
            await child.kill()
        await self._stack.aclose()

    async def _make_tables(self) -> None:
        if self.rows:
            self.settings.home.mkdir(parents=True)
            (self.settings.home / SERVER).write_text(self.rows)
            for service in self.plan.services:
                await migrate(service, self.settings, HEAD)

    def environment(self, role: str) -> Mapping[str, str]:
        mesh = self.settings
        return PLAIN | {
            "TIDEMILL_HOME": str(mesh.home),
            "TIDEMILL_PORT_BASE": str(self.ports.get(role, mesh.port_base)),
            "TIDEMILL_KAFKA": mesh.kafka,
            "TIDEMILL_KAFKA_SESSION_MS": str(mesh.kafka_session_ms),
            "TIDEMILL_TRITON": mesh.triton,
            "TIDEMILL_DB": mesh.db,
        }

    async def start(self, role: str, *, traced: bool = False, at: Point | None = None) -> Child:
        """Start or restart a role; what ran of it must be gone."""
        arguments: list[str] = []
        if role == BROKER:
            arguments = ["--data-dir", str(self.folder / BROKER)]
            arguments += ["--port", str(self.settings.port_base)]
            arguments += ["--group-initial-delay-ms", "0", "--group-min-session-ms", "1000"]
        log = self.folder / f"{role}.log"
        child = await self.nursery.start(
            service_of(role), arguments, self.environment(role), log, traced=traced, at=at
        )
        self.children[role] = child
        return child

    async def revive(self) -> None:
        """Start again whatever is dead."""
        for role in self.plan.roles:
            child = self.children[role]
            if not child.alive:
                if not child.doomed:
                    self.deaths.append(role)
                await self.start(role)

    def feed(self, count: int) -> "asyncio.Task[None]":
        """Send events in the background."""
        task = asyncio.create_task(self.load.burst(count))
        self.bursts.add(task)
        task.add_done_callback(self.bursts.discard)
        return task

    async def rest(self) -> None:
        """Until everything that was sent is dealt with. Raises Broken."""
        await self.revive()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await asyncio.gather(*self.bursts)
            await until_quiet(
                self.settings.kafka_address, self.settings.home, self.plan.services, QUIET_SECONDS
            )
        except NotQuiet as moving:
            for child in self.children.values():
                child.signal(signal.SIGUSR1)
            raise Broken(f"never came to rest: {moving}") from moving
        except TimeoutError as error:
            raise Broken("the broker takes no events") from error

    async def check(self, *, fresh: bool = False) -> Report:
        """Come to rest and audit. fresh: read the whole log anew. Raises Broken."""
        await self.rest()
        report = await self._audit(fresh)
        if not report.whole or report.pending:
            await asyncio.sleep(SETTLE_SECONDS)
            await self.rest()
            report = await self._audit(fresh=True)
        self.audits += 1
        if not report.whole or report.pending:
            raise Broken("the audit failed", report)
        if self.deaths:
            raise Broken(f"ended without a kill: {', '.join(self.deaths)}", report)
        if report.dead:
            raise Broken("healthy events were parked", report)
        return report

    async def _audit(self, fresh: bool) -> Report:
        log = Log(self.settings.kafka_address) if fresh else self.log
        return await audit(
            self.settings.kafka_address,
            self.settings.home,
            self.plan.services,
            self.load.accepted,
            log=log,
        )

    async def replay(self) -> None:
        """Stop the services, set every group back to offset 0, run: nothing may change."""
        await self.check(fresh=True)
        await asyncio.gather(*(self.children[name].stop() for name in self.plan.workers))
        bootstrap, home = self.settings.kafka_address, self.settings.home
        before = await state_of(bootstrap, home, self.plan.services)
        await rewind(bootstrap, self.plan.services)
        await self.rest()
        await asyncio.gather(*(self.children[name].stop() for name in self.plan.workers))
        moved = differences(before, await state_of(bootstrap, home, self.plan.services))
        if moved:
            raise Broken(f"a replay from offset 0 changed {', '.join(moved)}")
