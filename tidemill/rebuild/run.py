"""The rebuild of one service's store, from the first event to the swap."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tidemill.bus import open_bus
from tidemill.bus.admin import create_topics
from tidemill.clock import SystemClock
from tidemill.db import Database, open_database
from tidemill.faults import Fault, Reason, StartRefused
from tidemill.rebuild import files
from tidemill.rebuild.building import (
    Builder,
    Counts,
    Progress,
    builder_of,
    identity_of,
    open_stage,
    silent,
)
from tidemill.rebuild.offsets import rewind
from tidemill.rebuild.plan import Digests, MakePlan, Plan
from tidemill.settings import MeshSettings

FOLDER = "rebuild"
LOCK_SECONDS = 90.0
DRAIN_SECONDS = 60.0
CHECKS = 5
CHECK_PAUSE_SECONDS = 1.0

RUNNING = StartRefused("REBUILD_RUNNING", "another rebuild of this store is at work; wait for it")

Stopped = Callable[[], Awaitable[None]]
"""Called once the new store is built; has the service stopped."""


@dataclass(frozen=True)
class Rebuilt:
    """before: empty when there was no store. left: events that the service will get again."""

    before: Digests
    after: Digests
    counts: Counts
    left: int

    @property
    def same(self) -> bool:
        return not self.before or dict(self.before) == dict(self.after)


@dataclass(frozen=True)
class Rebuild:
    """One rebuild. live: the SQLite file in use."""

    service: str
    settings: MeshSettings
    make_plan: MakePlan
    live: Path
    progress: Progress

    async def run(self, stopped: Stopped) -> Rebuilt:
        """Build, have the service stopped, take in what came meanwhile, and swap.

        A kill at any point leaves the old store or the new one, whole; the next run begins anew.
        """
        async with self._built() as builder:
            await stopped()
            async with self._store_alone():
                rebuilt = await self._finish(builder)
                await builder.stage.database.engine.dispose()
                files.swap(builder.stage.folder / "rows.db", self.live)
                files.swap_derived(builder.plan.beside)
        return rebuilt

    async def check(self) -> Rebuilt:
        """Build beside the live store and compare; nothing is swapped. What the service has in
        hand may differ for a moment, so unequal stores are looked at again."""
        async with self._built() as builder:
            for _ in range(CHECKS):
                before = await self._live_digests(builder)
                await builder.play(self.progress)
                await builder.prune()
                after = await builder.plan.digests(builder.stage.database)
                if before == after:
                    break
                await asyncio.sleep(CHECK_PAUSE_SECONDS)
            return Rebuilt(before, after, builder.counts, left=0)

    @asynccontextmanager
    async def _built(self) -> AsyncIterator[Builder]:
        """The new store with all that is on the log now. Two rebuilds never share a folder."""
        lock = self.live.with_name("rebuild.lock")
        async with files.held(lock, RUNNING, alone=True, seconds=0.0):
            folder = files.empty_folder(self.live.parent / FOLDER)
            try:
                await create_topics(self.settings.kafka_address)
                async with open_stage(self.service, self.settings, folder) as stage:
                    plan = self.make_plan(stage)
                    await make_tables(stage.database, plan)
                    builder = builder_of(stage, plan)
                    await builder.play(self.progress)
                    yield builder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _store_alone(self) -> AbstractAsyncContextManager[None]:
        hint = f"{self.service} has its store open and does not stop; stop it and run this again"
        refusal = StartRefused("STORE_IN_USE", hint)
        lock = files.store_lock(self.live)
        return files.held(lock, refusal, alone=True, seconds=LOCK_SECONDS)

    async def _finish(self, builder: Builder) -> Rebuilt:
        """With the service away: nothing of its outbox is lost, and nothing is published twice."""
        await self._drain_outbox()
        before = await self._live_digests(builder)
        await builder.play(self.progress)
        await builder.prune()
        after = await builder.plan.digests(builder.stage.database)
        left = await rewind(self.settings.kafka_address, self.service, builder.left())
        return Rebuilt(before, after, builder.counts, left)

    async def _drain_outbox(self) -> None:
        """What the old store still had to say goes to the log first."""
        if not self.live.exists():
            return
        async with (
            self._old() as database,
            open_bus(
                self.service,
                self.settings.kafka_address,
                database,
                identity_of(self.service, self.settings),
                SystemClock(),
                silent(),
            ) as bus,
        ):
            bus.start()
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await bus.ready()
                    await bus.relay.empty.wait()
            except TimeoutError as error:
                raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error

    async def _live_digests(self, builder: Builder) -> Digests:
        if not self.live.exists():
            return {}
        async with self._old() as database:
            await make_tables(database, builder.plan)
            return await builder.plan.digests(database)

    def _old(self) -> AbstractAsyncContextManager[Database]:
        return open_database(f"sqlite+aiosqlite:///{self.live}")


async def make_tables(database: Database, plan: Plan) -> None:
    """The service's own; those of the bus come with it."""
    if plan.migrations is not None:
        await database.expect(plan.migrations)
