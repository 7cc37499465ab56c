"""Breaks the mesh by seed: a few kinds of trouble a run, so that each gets deep enough."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from tests.simulation.process import Process
from tests.simulation.world import World

# Those around a commit that settles an event come most often: most promises hang on them.
POINTS = (
    "take", "before settling", "before settling", "after settling", "after settling",
    "after settling", "before commit", "after commit", "before offset", "after offset",
    "published", "published",
)  # fmt: skip
DISK_WORDS = ("disk I/O error", "database or disk is full", "database is locked")


@dataclass
class Trap:
    """Springs when a process of the service reaches the point for the n-th time."""

    service: str
    point: str
    countdown: int
    spring: Callable[[Process], bool]


class Nemesis:
    """Traps at exact points of the code, and trouble at random moments."""

    def __init__(self, world: World, seed: object) -> None:
        self._world = world
        self._random = Random(f"{seed}/nemesis")
        self._traps: list[Trap] = []
        self._works: list[asyncio.Task[None]] = []
        world.loop.strike = self._strike

    def _strike(self, process: Process, point: str) -> bool:
        for trap in self._traps:
            if trap.service == process.service and trap.point == point:
                trap.countdown -= 1
                if trap.countdown <= 0:
                    self._traps.remove(trap)
                    self._world.loop.trace("trap", point)
                    return trap.spring(process)
        return False

    async def torment(self, seconds: float) -> None:
        """For that long; then everything that was broken is whole again."""
        kinds = [
            self._killing, self._freezing, self._rebalancing, self._broker_away, self._bad_disk,
            self._stores_away, self._lossy, self._restarting, self._twin, self._power_cut,
            self._leaderless, self._slow_disk, self._takeover,
        ]  # fmt: skip
        chosen = self._random.sample(kinds, self._random.randint(1, 4))
        for kind in [*chosen, self._random.choice((self._killing, self._held))]:
            for _ in range(self._random.randint(1, 4)):
                work = self._later(self._random.uniform(0, seconds * 0.8), kind)
                self._works.append(self._world.loop.watch(asyncio.create_task(work)))
        await asyncio.sleep(seconds)
        await self._heal()

    async def _later(self, delay: float, kind: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(delay)
        self._world.loop.trace("nemesis", kind.__name__)  # type: ignore[attr-defined]
        await kind()

    async def _heal(self) -> None:
        self._traps.clear()
        world = self._world
        world.loop.trace("heal")
        world.broker.up = world.stores.milvus_up = world.stores.triton_up = True
        world.loop.faults.heal()
        world.disk.failing.clear()
        world.disk.stalling.clear()
        await asyncio.gather(*self._works)
        for replica in world.replicas:
            if replica.process is not None:
                replica.process.paused = False

    # --- kinds of trouble

    def _service(self) -> str:
        return self._random.choice(self._world.names)

    def _set(self, spring: Callable[[Process], bool]) -> None:
        point, count = self._random.choice(POINTS), self._random.randint(1, 6)
        self._traps.append(Trap(self._service(), point, count, spring))

    async def _killing(self) -> None:
        def spring(process: Process) -> bool:
            self._world.kill(process)
            return True

        self._set(spring)

    async def _held(self) -> None:
        """A part is away for long, and the process that waits for it with a record in hand is
        killed, stopped or loses its partitions."""
        world, service = self._world, self._service()
        stores = {"embedder": "triton_up", "retriever": "milvus_up"}
        if service in stores:
            setattr(world.stores, stores[service], False)
        else:
            world.disk.failing[service] = ["disk I/O error"] * 10_000
        await asyncio.sleep(self._random.uniform(5.0, 9.0))
        fate = self._random.choice(("kill", "stop", "rebalance"))
        if fate == "rebalance":
            self._rebalance(service)
            await asyncio.sleep(self._random.uniform(2.0, 5.0))
        for replica in [r for r in world.replicas if r.service == service and r.process]:
            if fate == "stop":
                await world.stop(replica)
            elif replica.process is not None:
                world.kill(replica.process)
        world.disk.failing.pop(service, None)
        if service in stores:
            setattr(world.stores, stores[service], True)

    async def _freezing(self) -> None:
        """Stopped for longer than its session lasts; then it goes on as if nothing was."""
        seconds = self._random.uniform(11.0, 25.0)

        def spring(process: Process) -> bool:
            process.paused = True
            self._world.loop.call_later(seconds, self._thaw, process)
            return False

        self._set(spring)

    def _thaw(self, process: Process) -> None:
        self._world.loop.trace("thaw", process.name)
        process.paused = False

    async def _rebalancing(self) -> None:
        def spring(process: Process) -> bool:
            self._rebalance(process.service)
            return False

        self._set(spring)

    def _rebalance(self, service: str) -> None:
        broker = self._world.broker
        for name, group in broker.groups.items():
            if name.split(".")[1] == service and group.members:
                broker.rebalance(group)

    async def _broker_away(self) -> None:
        self._world.broker.up = False
        await asyncio.sleep(self._random.uniform(0.5, 15.0))
        self._bring_broker_back()

    def _bring_broker_back(self) -> None:
        self._world.broker.up = True
        self._world.broker.announce()

    async def _bad_disk(self) -> None:
        words = [self._random.choice(DISK_WORDS)] * self._random.randint(1, 6)
        self._world.disk.failing.setdefault(self._service(), []).extend(words)

    async def _stores_away(self) -> None:
        stores = self._world.stores
        name = self._random.choice(("milvus_up", "triton_up"))
        setattr(stores, name, False)
        await asyncio.sleep(self._random.uniform(0.5, 12.0))
        setattr(stores, name, True)

    async def _slow_disk(self) -> None:
        """Some statements of a service take long, so that its records are set aside; and then it
        dies after it told how far it is."""
        service = self._service()

        def spring(process: Process) -> bool:
            self._world.kill(process)
            return True

        self._world.disk.stalling[service] = 0.1
        await asyncio.sleep(self._random.uniform(1.0, 4.0))
        self._traps.append(Trap(service, "after offset", self._random.randint(1, 3), spring))
        await asyncio.sleep(self._random.uniform(2.0, 8.0))
        self._world.disk.stalling.pop(service, None)

    async def _lossy(self) -> None:
        name = self._random.choice(("lost_reply", "refused", "stalled"))
        setattr(self._world.loop.faults, name, self._random.uniform(0.05, 0.3))

    async def _leaderless(self) -> None:
        """Partitions without a leader now and then: producers give up what they could not send."""
        self._world.loop.faults.expired = self._random.uniform(0.2, 0.6)
        await asyncio.sleep(self._random.uniform(10.0, 20.0))
        self._world.loop.faults.expired = 0.0

    async def _restarting(self) -> None:
        await self._world.stop(self._random.choice(self._world.replicas))

    async def _twin(self) -> None:
        """A second process of a service for a while, on the same database."""
        service = self._service()
        if service in ("retriever",):
            return
        replica = self._world.add_replica(service)
        await asyncio.sleep(self._random.uniform(5.0, 20.0))
        replica.wanted = False
        await self._world.stop(replica)

    async def _takeover(self) -> None:
        """A process stops between the broker's word and the delete of its rows, a second one goes
        on, and the first wakes as that one has committed new rows."""
        service = self._random.choice([n for n in self._world.names if n != "retriever"])
        replica = self._world.add_replica(service)
        later = self._random.randint(2, 6)

        def freeze(process: Process) -> bool:
            def wake(_: Process) -> bool:
                # The new rows cannot leave before the first one deletes what it takes for its own.
                self._world.broker.up = False
                self._world.loop.call_later(2.0, self._bring_broker_back)
                self._thaw(process)
                return False

            process.paused = True
            self._traps.append(Trap(service, "after settling", later, wake))
            self._world.loop.call_later(25.0, self._thaw, process)
            return False

        await asyncio.sleep(self._random.uniform(1.0, 3.0))
        self._traps.append(Trap(service, "published", self._random.randint(1, 3), freeze))
        await asyncio.sleep(self._random.uniform(8.0, 20.0))
        replica.wanted = False
        await self._world.stop(replica)

    async def _power_cut(self) -> None:
        """The whole machine goes at one moment, the broker's log survives."""
        self._world.loop.trace("power cut")
        self._world.disk.cut_power(self._kill_all)

    def _kill_all(self) -> None:
        for replica in self._world.replicas:
            if replica.process is not None:
                self._world.kill(replica.process)
