"""Tells a consumer that waits for events from one that is stuck before them.

A client's task may live while nothing moves, so what counts is progress against the broker's own
end offsets.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError

from tidemill.bus.consumer import Consumer, Waiting
from tidemill.clock import Clock

STALL_SECONDS = 30.0
TOLD_SECONDS = 120.0
"""A consumer that waits for a dependency for so long is told by an alert."""
BEHIND_SECONDS = 600.0
"""So is one that always had events before it for so long, though it takes them."""
PROBE_SECONDS = 10.0
DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
CONSUMER_BEHIND = "CONSUMER_BEHIND"


async def lag_of(client: Any) -> int | None:
    """Records of the client's partitions that it has not taken; None when the broker is silent."""
    partitions = list(client.assignment())
    if not partitions:
        return 0
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            ends = await client.end_offsets(partitions)
            positions = [await client.position(partition) for partition in partitions]
    except (KafkaError, TimeoutError, OSError):
        return None
    pairs = zip(partitions, positions, strict=True)
    return sum(max(0, int(ends[partition] - position)) for partition, position in pairs)


@dataclass(frozen=True)
class Stall:
    """seconds: for how long. lag: events before the consumer."""

    reason: str
    seconds: float
    lag: int


@dataclass
class Progress:
    """What was seen of one consumer; observe() is called every few seconds."""

    consumer: Consumer[Any]
    clock: Clock
    finished: int = 0
    waiting_since: float | None = None
    behind_since: float | None = None
    lag: int = 0
    told: set[str] = field(default_factory=set)

    def observe(self, lag: int | None) -> None:
        """A lag of None, the broker being silent, is not the consumer's doing."""
        now = self.clock.monotonic()
        moved = self.consumer.finished != self.finished
        self.finished = self.consumer.finished
        self.lag = self.lag if lag is None else lag
        if not lag or moved:
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since = now
        if not self.lag:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = now

    def dependency(self) -> Waiting | None:
        """What the consumer waits for, and since when; None when it waits for nothing."""
        return min(self.consumer.waiting.values(), key=lambda each: each.since, default=None)

    def news(self) -> "Stall | None":
        """What somebody has to be told now; once per stretch of it."""
        now, waiting = self.clock.monotonic(), self.dependency()
        found: Stall | None = None
        if waiting is not None and now - waiting.since > TOLD_SECONDS:
            found = Stall(DEPENDENCY_UNAVAILABLE, now - waiting.since, self.lag)
        elif self.behind_since is not None and now - self.behind_since > BEHIND_SECONDS:
            found = Stall(CONSUMER_BEHIND, now - self.behind_since, self.lag)
        if found is None:
            self.told.clear()
        elif found.reason not in self.told:
            self.told.add(found.reason)
            return found
        return None

    def stalled(self) -> bool:
        """True when a try runs far past its time, or records wait and none is taken, be it for a
        dependency that is unavailable."""
        now, waiting = self.clock.monotonic(), self.dependency()
        if waiting is not None and now - waiting.since > STALL_SECONDS:
            return True
        if not self.consumer.idle.is_set():
            longest = max(self.consumer.timeout, self.consumer.policy.backoff.most)
            return now - self.consumer.pulse > longest + STALL_SECONDS
        return self.waiting_since is not None and now - self.waiting_since > STALL_SECONDS
