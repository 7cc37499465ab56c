"""A power cut at any moment, under each fsync policy: what may be lost, and what never is."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.broker.power_cut import PowerCutDisk
from tidemill.broker.clock import SystemClock
from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.groups.member import JoinAttempt, SyncAttempt
from tidemill.broker.groups.offsets import CommittedOffset
from tidemill.broker.node import Node, open_node
from tidemill.broker.settings import BrokerSettings, FsyncPolicy, GroupLimits
from tidemill.broker.storage.batch import BatchHeader
from tidemill.broker.storage.partition import AppendRules

ALWAYS, INTERVAL, NEVER = FsyncPolicy.ALWAYS, FsyncPolicy.INTERVAL, FsyncPolicy.NEVER
TOPIC, GROUP, MEMBER = "topic", "group", "member"
PRODUCER = 5


@dataclass
class Promised:
    """What a client was told is done, and so may not be lost."""

    end: int = -1  # -1: not even the topic
    committed: int = -1
    generation: int = 0


@dataclass
class World:
    """A broker without sockets on a disk whose power can be cut, and what its clients know."""

    folder: Path
    policy: FsyncPolicy
    chance: random.Random
    life: int = 0
    # By offset; what a cut took is forgotten, its offsets may come again.
    written: dict[int, bytes] = field(default_factory=dict)
    acknowledged: Promised = field(default_factory=Promised)
    promised: Promised = field(default_factory=Promised)
    producer_ids: set[int] = field(default_factory=set)
    start: int = 0

    def __post_init__(self) -> None:
        self.root = self.folder / "0"
        self.disk = PowerCutDisk(self.root)
        self.open()

    def open(self) -> None:
        self.node: Node = open_node(
            BrokerSettings(
                data_dir=self.root / "data",
                fsync=self.policy,
                groups=GroupLimits(initial_delay_ms=0),
            ),
            self.disk,
            SystemClock(),
        )

    def end(self) -> int:
        """The offset the next record gets; -1 if the topic is not there."""
        has = self.node.topics.has(TOPIC, 0)
        return self.node.topics.partition(TOPIC, 0).end_offset if has else -1

    # -- what clients ask

    async def produce(self, size: int) -> None:
        """One record; an idempotent producer counts it."""
        if self.end() < 0:
            self.node.topics.create(TOPIC, 1, {"internal.segment.bytes": "700"})
            await self.node.durability.confirm_journal()
            self._acknowledge(end=0)
        partition = self.node.topics.partition(TOPIC, 0)
        rules = self.node.topics.get(TOPIC).configs.append_rules
        sequence = self.end()
        value = b"%d/%d " % (self.life, sequence) + b"x" * size
        offset = partition.append(_batch(sequence, value), rules, 1).base_offset
        assert offset == sequence
        self.written[offset] = value
        await self.node.durability.confirm(partition)
        self._acknowledge(end=offset + 1)

    async def commit(self) -> None:
        """A consumer has read everything there is."""
        end = self.end()
        if end >= 0:
            self.node.groups.commit(GROUP, {(TOPIC, 0): CommittedOffset(end, -1, "", 1)})
            await self.node.durability.confirm_journal()
            self._acknowledge(committed=end)

    async def allocate(self) -> None:
        """A producer asks for an id."""
        producer_id = self.node.producer_ids.allocate()
        assert producer_id not in self.producer_ids, "an id was given twice"
        self.producer_ids.add(producer_id)

    async def rebalance(self) -> None:
        """A static member joins, and is told its generation and share."""
        groups, durability = self.node.groups, self.node.durability
        joined = await groups.join(GROUP, _attempt())
        await durability.confirm_journal()
        assert joined.generation >= self.promised.generation, "a generation came again"
        attempt = SyncAttempt(
            member_id=joined.member_id,
            instance_id=MEMBER,
            generation=joined.generation,
            assignments={joined.member_id: b"all"},
        )
        await groups.sync(GROUP, attempt)
        await durability.confirm_journal()
        self._acknowledge(generation=joined.generation)

    async def delete_records(self) -> None:
        """All but the last record are deleted."""
        if self.end() > 1:
            # From the request on they may be gone, not only from its answer on.
            self.start = max(self.start, self.end() - 1)
            self.node.topics.delete_records(TOPIC, 0, self.end() - 1)
            await self.node.durability.confirm_journal()

    # -- what happens to the broker

    async def tick(self) -> None:
        """The periodic work; under INTERVAL it makes good on all that was acknowledged."""
        told = replace(self.acknowledged)
        partitions = self.node.partitions()
        if self.policy is INTERVAL:
            await self.node.durability.flush(p for p in partitions if p.is_dirty)
            self.promised = told
        for partition in partitions:
            partition.seal_full_segments()

    async def compact_journal(self) -> None:
        """The journal is rewritten: all it holds is on disk then."""
        self.node.compact_journal()

    async def kill(self) -> None:
        """kill -9: the kernel has what was written, the disk may not."""
        self._abandon()
        self.open()

    async def cut(self, keeps: Callable[[int], int] | None = None) -> None:
        """The power goes; the broker starts on what the disk kept."""
        self._abandon()
        self.life += 1
        self.root = self.folder / str(self.life)
        self.disk.cut(self.root, keeps or (lambda n: self.chance.randint(0, n)))
        self.disk.close()
        self.disk = PowerCutDisk(self.root)
        self.open()
        self.check()
        self.written = {o: v for o, v in self.written.items() if o < self.end()}
        committed = self.node.groups.offsets.of(GROUP).get((TOPIC, 0))
        group = self.node.groups.find(GROUP)
        kept = Promised(
            self.end(),
            -1 if committed is None else committed.offset,
            group.generation if group is not None else 0,
        )
        # It was read from the disk, so it is there.
        self.acknowledged, self.promised = kept, replace(kept)

    def check(self) -> None:
        """What must hold after any cut."""
        promised, end = self.promised, self.end()
        assert end >= promised.end, "records, or the topic, are lost"
        values = self._values() if end >= 0 else {}
        assert values == {o: self.written[o] for o in values}, "a record is another one now"
        first = min(values, default=end)
        assert first <= max(self.start, 0) or end <= 0, "records are gone from the front"
        assert list(values) == list(range(first, end)), "records in between are lost"
        committed = self.node.groups.offsets.of(GROUP).get((TOPIC, 0))
        if promised.committed >= 0:
            assert committed is not None
            assert committed.offset >= min(promised.committed, end), "a commit is lost"
        if committed is not None and end >= 0:
            assert committed.offset <= end, "a group would skip what is appended next"
        group = self.node.groups.find(GROUP)
        generation = group.generation if group is not None else 0
        assert generation >= promised.generation, "a generation would come again"

    def close(self) -> None:
        self._abandon()
        self.disk.close()

    # -- inside

    def _acknowledge(self, **news: int) -> None:
        self.acknowledged = replace(self.acknowledged, **news)
        if self.policy is ALWAYS:
            self.promised = replace(self.promised, **news)

    def _values(self) -> dict[int, bytes]:
        partition = self.node.topics.partition(TOPIC, 0)
        values: dict[int, bytes] = {}
        offset = partition.start_offset
        while offset < partition.end_offset:
            batch = bytes(partition.read(offset, 1))
            header = BatchHeader.read(batch)
            assert header.checksum_matches(batch)
            assert header.base_offset >= offset
            values[header.base_offset] = next(iter(DefaultRecordBatch(batch))).value
            offset = header.last_offset + 1
        return values

    def _abandon(self) -> None:
        self.node.groups.close()
        for partition in self.node.partitions():
            partition.close()
        self.node.journal.close()
        self.node.directory.close()


def _batch(sequence: int, value: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, PRODUCER, 0, sequence, 1 << 20)
    builder.append(0, 1, None, value, [])
    return bytes(builder.build())


def _attempt() -> JoinAttempt:
    return JoinAttempt(
        member_id="",
        instance_id=MEMBER,
        client_id="client",
        client_host="host",
        session_ms=10_000,
        rebalance_ms=10_000,
        protocol_type="consumer",
        protocols=(("range", b""),),
        assigns_id=False,
    )


STEPS = st.one_of(
    st.tuples(st.just("produce"), st.integers(0, 300)),
    st.tuples(st.just("produce"), st.integers(0, 300)),
    st.tuples(
        st.sampled_from(
            ["commit", "allocate", "rebalance", "delete_records", "tick", "tick", "kill", "cut"]
        )
    ),
    st.tuples(st.just("compact_journal")),
)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(STEPS, min_size=5, max_size=40),
    policy=st.sampled_from(FsyncPolicy),
    seed=st.integers(0, 1 << 32),
)
def test_a_cut_takes_no_more_than_the_policy_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], policy: FsyncPolicy, seed: int
) -> None:
    async def run() -> None:
        world = World(tmp_path_factory.mktemp("disk"), policy, random.Random(seed))
        try:
            async with asyncio.timeout(60):
                for name, *arguments in [*steps, ("cut",), ("produce", 10), ("cut",)]:
                    await getattr(world, name)(*arguments)
        finally:
            world.close()

    asyncio.run(run())


def nothing_unsynced(_: int) -> int:
    """The worst cut there is."""
    return 0


@pytest.fixture(params=list(FsyncPolicy))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param, random.Random(1))


async def test_no_producer_id_comes_again_even_after_the_worst_cut(world: World) -> None:
    for _ in range(3):
        await world.allocate()
        await world.cut(nothing_unsynced)
    await world.allocate()
    assert len(world.producer_ids) == 4
    world.close()


@pytest.mark.parametrize("world", [INTERVAL], indirect=True)
async def test_what_a_killed_broker_wrote_is_synced_by_the_next_one(world: World) -> None:
    await world.produce(10)
    await world.commit()
    await world.kill()
    await world.tick()
    assert (world.promised.end, world.promised.committed) == (1, 1)
    await world.cut(nothing_unsynced)
    world.close()


@pytest.mark.parametrize("world", [ALWAYS], indirect=True)
async def test_a_repeated_batch_is_acknowledged_once_it_is_on_disk(world: World) -> None:
    await world.produce(10)
    value = world.written[1] = b"written, not synced"
    partition, rules = world.node.topics.partition(TOPIC, 0), _rules(world)
    partition.append(_batch(1, value), rules, 1)
    await world.kill()
    partition = world.node.topics.partition(TOPIC, 0)
    assert partition.append(_batch(1, value), rules, 1).base_offset == 1
    await world.node.durability.confirm(partition)
    world.promised = replace(world.promised, end=2)
    await world.cut(nothing_unsynced)
    world.close()


def _rules(world: World) -> AppendRules:
    return world.node.topics.get(TOPIC).configs.append_rules


@pytest.mark.parametrize("world", [ALWAYS], indirect=True)
@pytest.mark.parametrize("size", [1, 400], ids=["one segment", "a segment each"])
async def test_records_that_share_a_sync_all_wait_for_it(world: World, size: int) -> None:
    await world.produce(1)
    partition = world.node.topics.partition(TOPIC, 0)
    rules = _rules(world)
    slow = asyncio.Event()
    loop, sync = asyncio.get_running_loop(), world.disk.sync

    def sync_late(descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(slow.wait(), loop).result(10)
        sync(descriptor)

    world.disk.sync = sync_late  # type: ignore[method-assign]
    for sequence in (1, 2, 3, 4):
        partition.append(_batch(sequence, b"x" * size), rules, 1)
    answers = [asyncio.create_task(world.node.durability.confirm(partition)) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert not any(answer.done() for answer in answers), "nothing is on disk yet"
    slow.set()
    await asyncio.gather(*answers)
    world.disk.sync = sync  # type: ignore[method-assign]
    world.written |= dict.fromkeys(range(1, 5), b"x" * size)
    world.promised = replace(world.promised, end=5)
    await world.cut(nothing_unsynced)
    world.close()


@pytest.mark.parametrize("policy", [ALWAYS, INTERVAL])
async def test_every_client_goes_on_after_a_cut(
    tmp_path: Path, clients: Any, until: Callable[..., Any], policy: FsyncPolicy
) -> None:
    chance = random.Random(7)
    options = BrokerSettings(
        data_dir=tmp_path / "0" / "data",
        port=0,
        fsync=policy,
        fsync_interval_ms=50,
        groups=GroupLimits(initial_delay_ms=0),
    )
    disk = PowerCutDisk(tmp_path / "0")
    acked: list[bytes] = []
    async with clients:
        broker = EmbeddedBroker(options, disk=disk)
        async with broker:
            port = int(broker.bootstrap.rsplit(":", 1)[1])
            topic = await clients.topic(broker.bootstrap, internal_segment_bytes=2_000)
            producer = await clients.producer(broker.bootstrap, enable_idempotence=True)
            consumer = await clients.consumer(broker.bootstrap, topic, group_id="g")

            async def produce() -> None:
                while True:
                    value = b"%d" % len(acked)
                    await producer.send_and_wait(topic, value)
                    acked.append(value)

            producing = asyncio.create_task(produce())
            await until(lambda: len(acked) > 60)
            (record,) = await _take_one(consumer)
            await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(5, "")})
            told, committed = list(acked), 5
            disk.cut(tmp_path / "1", lambda n: chance.randint(0, n))
        restarted = replace(options, data_dir=tmp_path / "1" / "data", port=port)
        async with EmbeddedBroker(restarted) as broker:
            if policy is ALWAYS:
                # Under the interval the producer may rightly be told that its place is lost.
                target = len(acked) + 20
                await until(lambda: len(acked) > target)
                told = list(acked)
            producing.cancel()
            await asyncio.gather(producing, return_exceptions=True)
            fresh = await clients.producer(broker.bootstrap, enable_idempotence=True)
            await fresh.send_and_wait(topic, b"after")
            values = await clients.read_all(broker.bootstrap, topic)
            assert values[-1] == b"after" or policy is ALWAYS
            assert b"after" in values
            numbers = [int(value) for value in values if value != b"after"]
            assert numbers == list(range(len(numbers))), "order is kept, nothing is doubled"
            if policy is ALWAYS:
                assert len(numbers) >= len(told), "an acknowledged record is lost"
                assert await consumer.committed(TopicPartition(topic, 0)) == committed
            await clients.__aexit__()
    disk.close()
    assert record.offset == 0


async def _take_one(consumer: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return [await consumer.getone()]
