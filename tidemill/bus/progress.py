"""Tells a consumer that waits for events from one that is stuck before them.

A client's task may live while nothing moves, so what counts is progress against the broker's own
end offsets.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError

from tidemill.bus.consumer import Consumer
from tidemill.clock import Clock

STALL_SECONDS = 30.0
PROBE_SECONDS = 10.0


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


@dataclass
class Progress:
    """What was seen of one consumer; observe() is called every few seconds."""

    consumer: Consumer[Any]
    clock: Clock
    finished: int = 0
    waiting_since: float | None = None

    def observe(self, lag: int | None) -> None:
        """A lag of None, the broker being silent, is not the consumer's doing."""
        moved = self.consumer.finished != self.finished
        self.finished = self.consumer.finished
        if not lag or moved:
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since = self.clock.monotonic()

    def stalled(self) -> bool:
        """True when a try runs far past its time, or records wait and none is taken."""
        now = self.clock.monotonic()
        if not self.consumer.idle.is_set():
            longest = max(self.consumer.timeout, self.consumer.policy.backoff.most)
            return now - self.consumer.pulse > longest + STALL_SECONDS
        return self.waiting_since is not None and now - self.waiting_since > STALL_SECONDS
