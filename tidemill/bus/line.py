"""The records that a consumer has in hand: one after the other, with the troubled ones set aside.

A record that is not settled soon, because its handler hangs or because it waits for its next try,
does not hold its neighbours: the next record of another key is begun, while its own key waits
behind it. An offset is committed only when every record before it is settled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from tidemill.bus.consumer import Consumer, Held
from tidemill.bus.envelope import Record

log = structlog.get_logger()

LEAST_PATIENCE_SECONDS = 0.03
PATIENCE_FACTOR = 3.0
NEWEST_SHARE = 0.2
HELD_SECONDS = 1.0
BESIDE = 16

Commit = Callable[[int], Awaitable[None]]
Lane = tuple[int, bytes]


@dataclass
class Place:
    """How far one partition is, in one stretch of owning it. end: offset after the last record
    that was begun."""

    end: int
    committed: int
    unsettled: set[int] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def done(self) -> int:
        """Everything before this offset is settled."""
        return min(self.unsettled, default=self.end)


@dataclass
class Patience:
    """How long a record may hold its neighbours: several times what one takes as a rule. A fixed
    time would set records aside on a slow disk for nothing, and each would only wait for the
    others."""

    mean: float = 0.25

    @property
    def seconds(self) -> float:
        return max(LEAST_PATIENCE_SECONDS, PATIENCE_FACTOR * self.mean)

    def note(self, seconds: float) -> None:
        """A record took so long that needed no second try."""
        self.mean += NEWEST_SHARE * (seconds - self.mean)


class Line(ConsumerRebalanceListener):
    """One consumer's records in hand.

    beside: how many may be unsettled beside the newest; 0 takes strictly one at a time.
    """

    def __init__(self, consumer: Consumer[Any], beside: int, on_flood: Callable[[], None]) -> None:
        self._consumer = consumer
        self._beside = beside
        self._on_flood = on_flood
        self._places: dict[int, Place] = {}
        self._lanes: dict[Lane, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = consumer.news
        self._patience = Patience()
        self._closed = False

    async def put(self, record: Record, commit: Commit) -> None:
        """Returns when the record is settled, or set aside and there is room for another.

        A line that closes begins nothing: the record stays uncommitted and comes again.
        """
        if self._closed or self._consumer.stopping.is_set():
            return
        start = Place(record.offset, record.offset)
        place = self._places.setdefault(record.partition, start)
        if record.offset in place.unsettled:
            return
        place.unsettled.add(record.offset)
        place.end = max(place.end, record.offset + 1)
        task = self._begin(record, place, commit)
        await asyncio.wait({task}, timeout=self._patience.seconds)
        await self._room()

    def _begin(self, record: Record, place: Place, commit: Commit) -> asyncio.Task[None]:
        lane = (record.partition, record.key)
        task = asyncio.create_task(self._work(record, place, commit, self._lanes.get(lane)))
        self._lanes[lane] = task
        self._tasks.add(task)

        def forget(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if self._lanes.get(lane) is done:
                del self._lanes[lane]
            self._news.set()

        task.add_done_callback(forget)
        return task

    async def _room(self) -> None:
        """Wait while too many are unsettled, or one waits for a part that is down: the next
        record would only find the same."""
        while len(self._tasks) > self._beside or self._consumer.held:
            if not self._tasks:
                return
            self._news.clear()
            await self._news.wait()

    async def _work(
        self, record: Record, place: Place, commit: Commit, before: "asyncio.Task[None] | None"
    ) -> None:
        """Settle the record, after the one before it in its key; then commit what that allows."""
        if before is not None:
            await asyncio.wait({before})
        if not await self._settled(record):
            return
        place.unsettled.discard(record.offset)
        if self._consumer.brake.tripped and not self._closed:
            self._close()
            self._on_flood()
        await self._commit(record.partition, place, commit)

    async def _settled(self, record: Record) -> bool:
        """False when the consumer stops first; the record then comes again."""
        while not (self._closed or self._consumer.stopping.is_set()):
            try:
                started = self._consumer.clock.monotonic()
                if await self._consumer.take(record):
                    self._patience.note(self._consumer.clock.monotonic() - started)
                return True
            except Exception as error:
                if not isinstance(error, Held):
                    log.error("delivery_failed", consumer=self._consumer.name, exc_info=error)
                # The rest keeps a full disk from spinning.
                with self._consumer.holding(record):
                    await self._consumer.rest(HELD_SECONDS)
        return False

    async def _commit(self, partition: int, place: Place, commit: Commit) -> None:
        """One at a time: a commit that the client has to ask again would land after a later one
        and take the group's offset back. One that fails is made up for by the next, and costs
        duplicates at the next start otherwise, which the inbox knows."""
        async with place.turn:
            done = place.done
            if self._places.get(partition) is not place or done <= place.committed:
                return
            try:
                await commit(done)
                place.committed = done
            except (KafkaError, TimeoutError, OSError) as error:
                reason = type(error).__name__
                log.warning("commit_failed", consumer=self._consumer.name, reason=reason)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """What is in hand goes on, as the next owner finds it done; its offsets are not ours."""
        for place in revoked:
            self._places.pop(place.partition, None)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """The records begin where the group's offset is. One that was handed out before the
        partitions went may have come in since: its offset says nothing about those before it."""
        await self.on_partitions_revoked(assigned)

    def _close(self) -> None:
        """Begin nothing more; what was set aside is handed back, the caller's own task goes on."""
        self._closed = True
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def drain(self, seconds: float) -> None:
        """Let the records in hand end within that time, then hand the others back. The consumer
        is told to stop before."""
        self._news.set()
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
