"""What is done to a lane: kills at chosen calls, kills at random moments, and audits in between."""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError

from tests.faults.lane import BROKER, Broken, Lane, service_of
from tests.faults.nursery import Child
from tests.faults.points import Point, points_of, spread
from tests.ledger.quiet import still_moving

CHAIN = 12
"""Kill points of one role between two audits."""
KILLS = 4
"""Random kills between two audits."""
LOOK_SECONDS = 0.5
STOP_SECONDS = 15.0


@dataclass
class Tally:
    """What was done. reached: points at which a process died; since_good: faults since the last
    audit that was whole; failures: what broke."""

    possible: dict[str, int] = field(default_factory=dict)
    tried: Counter[str] = field(default_factory=Counter)
    reached: dict[str, set[Point]] = field(default_factory=lambda: defaultdict(set))
    sigkills: int = 0
    replays: int = 0
    since_good: list[str] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kill_points(self) -> int:
        return sum(len(points) for points in self.reached.values())


async def measure(lane: Lane, role: str) -> list[Point]:
    """Every kill point of a run of this role: start, one burst, rest, stop."""
    await lane.rest()
    await lane.children[role].stop()
    child = await lane.start(role, traced=True)
    lane.feed(lane.plan.burst)
    await lane.rest()
    await child.stop()
    await lane.start(role)
    return points_of(role, child.counted())


@dataclass
class Sweep:
    """Kill points of a lane's roles, taken in turns of CHAIN."""

    lane: Lane
    tally: Tally
    todo: dict[str, list[Point]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    async def prepare(self, roles: Sequence[str] = ()) -> None:
        """Count the calls of these roles, all of the lane's by default."""
        for role in roles or self.lane.plan.roles:
            started = time.monotonic()
            points = await measure(self.lane, role)
            self.seconds[role] = time.monotonic() - started
            self.tally.possible[role] = len(points)
            self.todo[role] = list(reversed(spread(points, self.lane.seed)))

    async def chain(self, role: str, end: float, length: int = CHAIN) -> None:
        """The restart after one kill is the run that dies at the next point. end: monotonic time
        after which no further run is begun."""
        await self.lane.children[role].kill()
        for _ in range(length):
            if self.todo[role] and time.monotonic() < end:
                await self._die_at(self.todo[role].pop())
        await self.lane.revive()

    async def _die_at(self, point: Point) -> None:
        self.tally.tried[point.role] += 1
        child = await self.lane.start(point.role, at=point)
        burst = self.lane.feed(self.lane.plan.burst)
        limit, in_time = time.monotonic() + self.seconds[point.role], True
        while not await child.gone(LOOK_SECONDS):
            if time.monotonic() > limit or (burst.done() and await self._is_idle(point.role)):
                # The last calls of a run are those of its stop.
                in_time = await self._stop(child)
        if in_time and child.was_killed():
            self.tally.reached[point.role].add(point)
            self.tally.since_good.append(f"{point}: {child.last_call()}")
        else:
            self.tally.since_good.append(f"{point} (not reached)")

    async def _is_idle(self, role: str) -> bool:
        settings, services = self.lane.settings, self.lane.plan.services
        looked_at = services if role == BROKER else (service_of(role),)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return not await still_moving(settings.kafka_address, settings.home, looked_at)
        except (KafkaError, OSError, TimeoutError):
            return False

    async def _stop(self, child: Child) -> bool:
        """False when SIGTERM was not enough."""
        child.signal(signal.SIGTERM)
        if await child.gone(STOP_SECONDS):
            return True
        await child.kill()
        self.tally.sigkills += 1
        return False


async def random_kills(lane: Lane, tally: Tally, number: int = KILLS) -> None:
    """kill -9 of one role after the other, or of several at once, at random moments of load."""
    for _ in range(number):
        lane.feed(lane.plan.burst // 2)
        await asyncio.sleep(lane.seed.uniform(0.02, 1.2))
        together = lane.seed.choice((1, 1, 1, 2, len(lane.plan.roles)))
        victims = lane.seed.sample(lane.plan.roles, together)
        for role in victims:
            lane.children[role].signal(signal.SIGKILL)
        await asyncio.gather(*(lane.children[role].gone(20.0) for role in victims))
        tally.sigkills += len(victims)
        tally.since_good.append(f"SIGKILL of {', '.join(victims)}")
        await asyncio.sleep(lane.seed.uniform(0.0, 0.2))
        await lane.revive()


async def verify(lane: Lane, tally: Tally, *, last: bool = False) -> bool:
    """Audit, and at the end a replay too. False when something broke: it is written down."""
    try:
        if last:
            await lane.replay()
            tally.replays += 1
        else:
            await lane.check()
    except Broken as broken:
        tally.failures.append(failure_of(lane, tally, broken))
        return False
    tally.since_good.clear()
    return True


def failure_of(lane: Lane, tally: Tally, broken: Broken) -> dict[str, Any]:
    report = broken.report
    return {
        "lane": lane.folder.name,
        "folder": str(lane.folder),
        "why": str(broken),
        "lost": report.lost if report else 0,
        "doubled": report.doubled if report else 0,
        "dead": report.dead if report else 0,
        "disagreements": [str(each) for each in report.disagreements[:50]] if report else [],
        "faults_since_the_last_good_audit": list(tally.since_good),
    }
