"""The records that a consumer has in hand: in order per key, with the troubled ones set aside.

Records that have arrived together are begun together, so that one transaction can take them. One
that is not settled soon, because its handler hangs or because it waits for its next try, does not
hold its neighbours: records of other keys go on, while its own key waits behind it. An offset is
committed only when every record before it is settled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from tidemill.bus.consumer import Consumer, HandedBack
from tidemill.bus.envelope import Record

log = structlog.get_logger()

LEAST_TIMEOUT_SECONDS = 0.03
TIMEOUT_FACTOR = 3.0
NEWEST_SHARE = 0.2
MAX_CONCURRENCY = 17
COMMIT_SECONDS = 0.5
"""What is settled meanwhile shares a commit. A crash costs duplicates, which the inbox knows."""
REVOKED_SECONDS = 1.0
LAST_COMMIT_SECONDS = 1.0

Commit = Callable[[Mapping[TopicPartition, int]], Awaitable[None]]
Lane = tuple[int, bytes]


@dataclass
class OffsetTracker:
    """How far one partition is, in one stretch of owning it. end: offset after the last record
    that was begun."""

    end: int
    committed: int
    unsettled: set[int] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Everything before this offset is settled."""
        return min(self.unsettled, default=self.end)


@dataclass
class AdaptiveTimeout:
    """How long a record may hold its neighbours: several times what one takes as a rule. A fixed
    time would set records aside on a slow disk for nothing, and each would only wait for the
    others."""

    mean: float = 0.25

    @property
    def seconds(self) -> float:
        return max(LEAST_TIMEOUT_SECONDS, TIMEOUT_FACTOR * self.mean)

    def note(self, seconds: float) -> None:
        """A record took so long that needed no second try."""
        self.mean += NEWEST_SHARE * (seconds - self.mean)


class OrderedDispatcher(ConsumerRebalanceListener):
    """One consumer's records in hand, of all its partitions.

    batch: how many records are begun together. max_concurrency: how many may be unsettled; 1 takes
    strictly one at a time.
    """

    def __init__(
        self,
        consumer: Consumer[Any],
        on_trip: Callable[[], None],
        *,
        batch: int = 1,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> None:
        self.batch = batch
        self._consumer = consumer
        self._most = max(batch, max_concurrency)
        self._on_trip = on_trip
        self._offsets: dict[TopicPartition, OffsetTracker] = {}
        self._lanes: dict[Lane, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = consumer.changed
        self._timeout = AdaptiveTimeout()
        self._commit: Commit | None = None
        self._committing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def put(self, records: Sequence[Record], commit: Commit | None = None) -> None:
        """Returns when the records are settled, or set aside and there is room for another.

        Records that come while the dispatcher closes are not begun: they stay uncommitted and come
        again.
        """
        self._commit = commit
        begun = set()
        for record in records:
            await self._room()
            if self._closed or self._consumer.stopping.is_set():
                return
            task = self._begin(record)
            if task is not None:
                begun.add(task)
        if begun:
            await asyncio.wait(begun, timeout=self._timeout.seconds)
        await self._room()

    def _begin(self, record: Record) -> "asyncio.Task[None] | None":
        """None for a record that is in hand already, as after a rebalance."""
        place = TopicPartition(record.topic, record.partition)
        start = OffsetTracker(record.offset, record.offset)
        tracker = self._offsets.setdefault(place, start)
        if record.offset in tracker.unsettled:
            return None
        tracker.unsettled.add(record.offset)
        tracker.end = max(tracker.end, record.offset + 1)
        lane = (record.partition, record.key)
        task = asyncio.create_task(self._work(record, place, tracker, self._lanes.get(lane)))
        self._lanes[lane] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(lane, done))
        return task

    def _forget(self, lane: Lane, done: "asyncio.Task[None]") -> None:
        self._tasks.discard(done)
        if self._lanes.get(lane) is done:
            del self._lanes[lane]
        self._changed.set()

    async def _room(self) -> None:
        """Wait while too many are unsettled, or one waits for a dependency: the next record would
        only find the same."""
        while len(self._tasks) >= self._most or self._consumer.waiting:
            if not self._tasks:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _work(
        self,
        record: Record,
        place: TopicPartition,
        tracker: OffsetTracker,
        before: "asyncio.Task[None] | None",
    ) -> None:
        """Settle the record, after the one before it in its key."""
        if before is not None:
            await asyncio.wait({before})
        if self._closed or self._consumer.stopping.is_set():
            return
        started = self._consumer.clock.monotonic()
        try:
            if await self._consumer.take(record):
                self._timeout.note(self._consumer.clock.monotonic() - started)
        except HandedBack:
            return
        tracker.unsettled.discard(record.offset)
        if self._consumer.breaker.tripped and not self._closed:
            self._close()
            self._on_trip()
        if self._committing is None and self._commit is not None:
            self._committing = asyncio.create_task(self._commit_soon())

    async def _commit_soon(self) -> None:
        """After a moment, in which more may be settled. One at a time: a commit that the client
        has to ask again would land after a later one and take the group's offset back."""
        try:
            while self._ahead() and not self._consumer.stopping.is_set():
                await self._consumer.rest(COMMIT_SECONDS)
                await self._commit_done()
        finally:
            self._committing = None

    def _ahead(self) -> dict[TopicPartition, tuple[OffsetTracker, int]]:
        """Partitions with settled records that are not committed, and up to which offset."""
        found = {place: (tracker, tracker.done) for place, tracker in self._offsets.items()}
        return {place: (t, done) for place, (t, done) in found.items() if done > t.committed}

    async def _commit_done(self) -> None:
        """One that fails is made up for by the next, and costs duplicates at the next start
        otherwise, which the inbox knows."""
        async with self._turn:
            ahead = self._ahead()
            if not ahead or self._commit is None:
                return
            try:
                await self._commit({place: done for place, (_, done) in ahead.items()})
            except (KafkaError, TimeoutError, OSError) as error:
                name = type(error).__name__
                log.warning("commit_failed", consumer=self._consumer.name, reason=name)
                return
            for tracker, done in ahead.values():
                tracker.committed = max(tracker.committed, done)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """What is in hand goes on, as the next owner finds it done; its offsets are not ours."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REVOKED_SECONDS):
                await self._commit_done()
        self._forget_places(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """The records begin where the group's offset is. One that was handed out before the
        partitions went may have come in since: its offset says nothing about those before it."""
        self._forget_places(assigned)

    def _forget_places(self, places: set[TopicPartition]) -> None:
        for place in places:
            self._offsets.pop(place, None)

    def _close(self) -> None:
        """Begin nothing more; what was set aside is handed back, the caller's own task goes on."""
        self._closed = True
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def settled(self) -> None:
        """Returns once nothing is in hand."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def drain(self, seconds: float) -> None:
        """Let the records in hand end within that time, hand the others back, and commit. The
        consumer is told to stop before."""
        self._changed.set()
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._last_commit(LAST_COMMIT_SECONDS)

    async def _last_commit(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self._committing is not None:
                    await asyncio.wait({self._committing})
                await self._commit_done()
