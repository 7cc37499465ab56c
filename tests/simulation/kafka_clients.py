"""What aiokafka's clients look like from outside, over the simulated broker.

FastStream and everything above it is real: it makes these clients, and it acknowledges with them.
"""

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    ProducerClosed,
    RequestTimedOutError,
)

from tests.simulation.broker import Broker, Headers, Member
from tests.simulation.loop import pass_time, running_loop
from tests.simulation.process import WORLD, current

HOP = 0.002
"""Seconds that a request to the broker takes on average."""
AUTO_COMMIT_SECONDS = 5.0
EXPIRY_SECONDS = 5.0
MOST_PARTITIONS = 2
"""So that records of other keys meet in a partition."""


def the_broker() -> Broker:
    broker: Broker = running_loop().broker
    return broker


def number() -> int:
    """Counted in the run, not in the interpreter, so that a seed repeats."""
    loop = running_loop()
    loop.clients = getattr(loop, "clients", 0) + 1
    return loop.clients


async def asked(broker: Broker) -> None:
    """The way to the broker and back, or the error of a broker that is away."""
    await pass_time(HOP)
    broker.check_up()


class Consumer:
    """Stands for AIOKafkaConsumer, in a group or reading by itself."""

    def __init__(
        self,
        *topics: str,
        group_id: str | None = None,
        client_id: str = "",
        enable_auto_commit: bool = True,
        session_timeout_ms: int = 10_000,
        heartbeat_interval_ms: int = 3_000,
        **_: Any,
    ) -> None:
        self._broker = the_broker()
        self._group_id = group_id
        self._topics = topics
        self._auto_commit = enable_auto_commit and group_id is not None
        self._heartbeat = heartbeat_interval_ms / 1000
        name = f"{current().name}#{number()}"
        self._member = Member(name, topics, session_timeout_ms / 1000, 0.0)
        self._positions: dict[TopicPartition, int] | None = None
        self._listener: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._assigned = asyncio.Event()
        self._stopped = False

    def subscribe(self, topics: Iterable[str], pattern: Any = None, listener: Any = None) -> None:
        self._topics = self._member.topics = tuple(topics)
        self._listener = listener

    async def start(self) -> None:
        await asked(self._broker)
        if self._group_id is None:
            places = [p for topic in self._topics for p in self._places(topic)]
            self._positions = dict.fromkeys(places, 0)
            return
        self._broker.consumers.append((current(), self))
        works = [self._membership()]
        if self._auto_commit:
            works.append(self._commit_now_and_then())
        self._tasks = [running_loop().watch(asyncio.create_task(work)) for work in works]

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for p in range(len(self._broker.logs[topic]))]

    async def stop(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._group_id is None:
            return
        with suppress(KafkaError, IllegalStateError):
            if self._auto_commit:
                await self.commit()
            await asked(self._broker)
            self._broker.leave(self._group_id, self._member)
        self._broker.announce()

    @property
    def group(self) -> str | None:
        return self._group_id

    def behind(self) -> dict[TopicPartition, int]:
        """Records of each of its partitions that it has not taken."""
        positions = self._positions or {}
        return {place: self._broker.end(place) - offset for place, offset in positions.items()}

    # --- the group

    async def _membership(self) -> None:
        while True:
            try:
                await self._join()
                while await self._beat():
                    pass
                await self._revoke()
            except KafkaError:
                await asyncio.sleep(0.1)

    async def _join(self) -> None:
        assert self._group_id
        await asked(self._broker)
        # A member that the group gave up joins as a new one.
        old = self._member
        group = self._broker.group(self._group_id)
        if group.members.get(old.name) is not old:
            self._member = Member(old.name, old.topics, old.session, 0.0)
        places = await self._broker.join(self._group_id, self._member)
        await asked(self._broker)
        self._positions = {place: group.committed.get(place, 0) for place in places}
        self._assigned.set()
        self._broker.announce()
        if self._listener is not None:
            await self._listener.on_partitions_assigned(set(places))

    async def _beat(self) -> bool:
        assert self._group_id
        await asyncio.sleep(self._heartbeat * (0.5 + running_loop().latency.random() / 2))
        try:
            await asked(self._broker)
        except KafkaError:
            return True
        return self._broker.heartbeat(self._group_id, self._member)

    async def _revoke(self) -> None:
        # Nothing is handed out any more; what was handed out may still be on its way.
        self._assigned.clear()
        if self._auto_commit:
            with suppress(KafkaError, IllegalStateError):
                await self.commit()
        if self._listener is not None:
            await self._listener.on_partitions_revoked(self.assignment())
        self._positions = None

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(AUTO_COMMIT_SECONDS)
            with suppress(KafkaError, IllegalStateError):
                await self.commit()

    async def commit(self, offsets: dict[TopicPartition, int] | None = None) -> None:
        """Of all partitions as far as they were taken, or what is given."""
        if self._positions is None or self._group_id is None:
            raise IllegalStateError("No partitions assigned")
        wanted = dict(self._positions) if offsets is None else offsets
        for place in wanted:
            if place not in self._positions:
                raise IllegalStateError(f"Partition {place} is not assigned")
        await running_loop().point("before offset")
        await asked(self._broker)
        self._broker.commit(self._group_id, self._member, wanted)
        await running_loop().point("after offset")
        if running_loop().latency.random() < running_loop().faults.lost_reply:
            raise RequestTimedOutError

    # --- records

    async def getone(self, *places: TopicPartition) -> ConsumerRecord[Any, Any]:
        while True:
            if self._stopped:
                raise ConsumerStoppedError
            if self._group_id is not None:
                await self._assigned.wait()
            news = self._broker.news
            record = self._next(places)
            if record is not None:
                await running_loop().point("take")
                return record
            await news.wait()
            await pass_time(HOP)

    def _next(self, places: Sequence[TopicPartition]) -> ConsumerRecord[Any, Any] | None:
        """Of a partition by seed: partitions have no order among each other."""
        positions = self._positions or {}
        if not self._broker.up:
            return None
        ready = [
            place
            for place, offset in positions.items()
            if offset < self._broker.end(place) and (not places or place in places)
        ]
        if not ready:
            return None
        place = running_loop().latency.choice(ready)
        offset, positions[place] = positions[place], positions[place] + 1
        running_loop().trace("take", place.topic, place.partition, offset)
        return self._broker.logs[place.topic][place.partition][offset]

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int = 0, max_records: int | None = None, **_: Any
    ) -> dict[TopicPartition, list[Any]]:
        """Without a time to wait it hands out what the client holds, and asks nobody."""
        if timeout_ms or self._group_id is None:
            await asked(self._broker)
        left = max_records or sys.maxsize
        found: dict[TopicPartition, list[Any]] = {}
        for place in places or list(self._positions or {}):
            offset = (self._positions or {})[place]
            records = self._broker.logs[place.topic][place.partition][offset:][:left]
            if records and self._positions is not None:
                self._positions[place] = offset + len(records)
                found[place] = records
                left -= len(records)
        if found and self._group_id is not None:
            running_loop().trace("take more", {p.partition: len(r) for p, r in found.items()})
        return found

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if self._positions is None or partition not in self._positions:
            raise IllegalStateError(f"No current assignment for partition {partition}")
        self._positions[partition] = offset
        self._broker.announce()

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions or {})

    async def position(self, partition: TopicPartition) -> int:
        if self._positions is None or partition not in self._positions:
            raise IllegalStateError(f"Partition {partition} is not assigned")
        return self._positions[partition]

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await asked(self._broker)
        return {place: self._broker.end(place) for place in places}

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[Any, int]:
        await asked(self._broker)
        return dict.fromkeys(places, 0)


@dataclass(eq=False)
class Batch:
    """Records of one partition that go together; the next batch waits for this one."""

    place: TopicPartition
    made_at: float
    drained: asyncio.Event
    records: list[tuple[bytes | None, bytes | None, Headers, float]]
    futures: list["asyncio.Future[Any]"]


class Producer:
    """Stands for AIOKafkaProducer: one batch a partition under way, one that fills."""

    def __init__(self, *, enable_idempotence: bool = False, **_: Any) -> None:
        self._broker = the_broker()
        self._idempotent = enable_idempotence
        self._id = number()
        self._sequence = itertools.count()
        self._filling: dict[TopicPartition, Batch] = {}
        self._senders: dict[TopicPartition, asyncio.Task[None]] = {}
        self._queues: dict[TopicPartition, deque[Batch]] = {}
        self._closed = False
        # Small, so that a batch that fails has a successor; one is a record of many kilobytes.
        self._room = running_loop().scheduling.choice((1, 1, 3))

    async def start(self) -> None:
        await asked(self._broker)

    async def stop(self) -> None:
        if not self._closed and self._senders and self._broker.up:
            await asyncio.wait(list(self._senders.values()), timeout=5.0)
        self._closed = True
        for task in list(self._senders.values()):
            task.cancel()

    async def flush(self) -> None:
        if self._senders:
            await asyncio.wait(list(self._senders.values()))

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> "asyncio.Future[Any]":
        place = self._broker.place_of(topic, key)
        loop = running_loop()
        while True:
            if self._closed:
                raise ProducerClosed
            batch = self._filling.get(place)
            if batch is None:
                batch = self._open(place)
            if len(batch.records) < self._room:
                future: asyncio.Future[Any] = loop.create_future()
                batch.records.append((key, value, headers or (), loop.wall()))
                batch.futures.append(future)
                return future
            await batch.drained.wait()

    async def send_and_wait(self, topic: str, value: Any = None, **kwargs: Any) -> Any:
        return await (await self.send(topic, value, **kwargs))

    def _open(self, place: TopicPartition) -> Batch:
        loop = running_loop()
        batch = Batch(place, loop.time(), asyncio.Event(), [], [])
        self._filling[place] = batch
        self._queues.setdefault(place, deque()).append(batch)
        if place not in self._senders:
            self._senders[place] = loop.watch(asyncio.create_task(self._drain(place)))
        return batch

    async def _drain(self, place: TopicPartition) -> None:
        queue = self._queues[place]
        while queue:
            await pass_time(HOP)
            batch = queue[0]
            fate = await self._wait_for_leader(batch)
            queue.popleft()
            if self._filling.get(place) is batch:
                del self._filling[place]
            batch.drained.set()
            if fate is not None:
                running_loop().trace("batch expired", place.topic, place.partition)
                finish(batch, error=fate)
            else:
                await self._deliver(batch)
        del self._senders[place]

    async def _wait_for_leader(self, batch: Batch) -> KafkaError | None:
        """A batch that was never sent may run out of time; one that was is sent until it is in."""
        loop = running_loop()
        if loop.latency.random() < loop.faults.expired:
            await asyncio.sleep(EXPIRY_SECONDS * loop.latency.random())
            return LeaderNotAvailableError()
        while not self._broker.up:  # noqa: ASYNC110 - as aiokafka does
            await asyncio.sleep(0.2)
        return None

    async def _deliver(self, batch: Batch) -> None:
        sequence = next(self._sequence)
        loop = running_loop()
        while True:
            arrival: asyncio.Future[bool] = loop.create_future()
            # What is on the wire arrives even when its sender is killed.
            delay = loop.latency.expovariate(1 / HOP)
            loop.call_later(delay, self._arrive, batch, sequence, arrival, context=WORLD.context())
            heard = await arrival
            if heard and loop.latency.random() >= loop.faults.lost_reply:
                await loop.point("published")
                finish(batch)
                return
            await asyncio.sleep(0.1)

    def _arrive(self, batch: Batch, sequence: int, arrival: "asyncio.Future[bool]") -> None:
        up = self._broker.up
        if up:
            known = self._broker.is_repeated(self._id, batch.place, sequence)
            if not (known and self._idempotent):
                for key, value, headers, made_at in batch.records:
                    self._broker.append(batch.place, key, value, headers, made_at)
        if not arrival.done():
            arrival.set_result(up)


def finish(batch: Batch, error: KafkaError | None = None) -> None:
    for future in batch.futures:
        if future.done():
            continue
        if error is None:
            future.set_result(batch.place)
        else:
            future.set_exception(error)
            # Nobody has to ask for it.
            future.exception()


class Admin:
    """Stands for AIOKafkaAdminClient."""

    def __init__(self, **_: Any) -> None:
        self._broker = the_broker()

    async def start(self) -> None:
        await asked(self._broker)

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def list_topics(self) -> list[str]:
        await asked(self._broker)
        return list(self._broker.logs)

    async def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"node_id": 1}]}

    async def create_topics(self, topics: Iterable[Any]) -> Any:
        await asked(self._broker)
        for topic in topics:
            self._broker.create(topic.name, min(topic.num_partitions, MOST_PARTITIONS))
        return SimpleNamespace(topic_errors=[])


__all__ = ["Admin", "CommitFailedError", "Consumer", "KafkaTimeoutError", "Producer"]
