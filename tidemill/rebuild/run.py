"""The rebuild of one service's store, from the first event to the swap."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tidemill.bus import open_bus
from tidemill.bus.admin import create_topics
from tidemill.bus.kafka import group_of
from tidemill.clock import SystemClock
from tidemill.db import Database
from tidemill.faults import Fault, Reason
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
from tidemill.rebuild.stores import Store, tables_of
from tidemill.settings import MeshSettings

DRAIN_SECONDS = 60.0
CHECKS = 5
CHECK_PAUSE_SECONDS = 1.0

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
    """One rebuild. store: the one in use."""

    service: str
    settings: MeshSettings
    make_plan: MakePlan
    store: Store
    progress: Progress

    async def run(self, stopped: Stopped) -> Rebuilt:
        """Build, have the service stopped, take in what came meanwhile, and swap.

        A kill at any point leaves the old store or the new one, whole; the next run begins anew.
        """
        async with self._built() as builder:
            await stopped()
            groups = [group_of(self.service, each.topic.name) for each in builder.plan.inputs]
            async with self.store.alone(groups):
                rebuilt = await self._finish(builder)
                stage, tables = builder.stage, tables_of(builder.plan.tables)
                await self.store.exchange(stage.database, stage.folder, tables)
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
        async with self.store.building() as folder:
            await create_topics(self.settings.kafka_address)
            async with open_stage(self.service, self.settings, folder) as stage:
                plan = self.make_plan(stage)
                await make_tables(stage.database, plan)
                builder = builder_of(stage, plan)
                await builder.play(self.progress)
                yield builder

    async def _finish(self, builder: Builder) -> Rebuilt:
        """With the service away: nothing of its outbox is lost, and nothing is published twice."""
        await self._drain_outbox(builder.plan)
        before = await self._live_digests(builder)
        await builder.play(self.progress)
        await builder.prune()
        after = await builder.plan.digests(builder.stage.database)
        left = await rewind(self.settings.kafka_address, self.service, builder.left())
        return Rebuilt(before, after, builder.counts, left)

    async def _drain_outbox(self, plan: Plan) -> None:
        """What the old store still had to say goes to the log first."""
        if not await self.store.exists(tables_of(plan.tables)):
            return
        async with (
            self.store.open() as database,
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
        if not await self.store.exists(tables_of(builder.plan.tables)):
            return {}
        async with self.store.open() as database:
            await make_tables(database, builder.plan)
            return await builder.plan.digests(database)


async def make_tables(database: Database, plan: Plan) -> None:
    """The service's own; those of the bus come with it."""
    if plan.migrations is not None:
        await database.expect(plan.migrations)
