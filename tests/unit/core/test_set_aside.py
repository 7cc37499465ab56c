"""Records in hand: neighbours pass one in trouble, its key waits, offsets follow what is done."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError

from tests.tables import create_tables
from tidemill import topics
from tidemill.backoff import Backoff
from tidemill.bus import Delivery
from tidemill.bus.commits import GroupCommit
from tidemill.bus.consumer import Consumer
from tidemill.bus.dispatcher import (
    COMMIT_SECONDS,
    LEAST_TIMEOUT_SECONDS,
    AdaptiveTimeout,
    OrderedDispatcher,
)
from tidemill.bus.envelope import Record
from tidemill.bus.failures import DlqCircuitBreaker, RetryPolicy
from tidemill.bus.tables import BusBase
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason
from tidemill.telemetry import open_telemetry

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
TOPIC = topics.DOCUMENTS_CHUNKED
QUICK = RetryPolicy(backoff=Backoff(0.01, 0.01))


def record(offset: int, key: str, partition: int = 0) -> Record:
    return Record(TOPIC.name, partition, offset, f"acme/{key}".encode(), b"", {}, MOMENT)


@dataclass
class Desk:
    """A consumer whose handler holds the records that the test tells it to hold."""

    consumer: Any = None
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    committed: list[tuple[int, int]] = field(default_factory=list)
    refuses_commit: bool = False
    is_down: bool = False
    dispatchers: list[OrderedDispatcher] = field(default_factory=list)

    async def handle(self, message: Any, delivery: Delivery) -> None:
        offset = delivery.record.offset
        self.begun.append(offset)
        if offset in self.gates:
            await self.gates[offset].wait()
        if self.is_down:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE)
        if delivery.aggregate_id == "bad":
            raise Fault(Reason.DOCUMENT_BROKEN)
        await delivery.apply(lambda unit: self.done.append(offset))

    def stick(self, offset: int) -> asyncio.Event:
        return self.gates.setdefault(offset, asyncio.Event())

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.refuses_commit:
            raise CommitFailedError("rebalance")
        self.committed += [(place.partition, offset) for place, offset in offsets.items()]


@pytest.fixture
async def desk(database: Any, identity: Any, tmp_path: Path) -> AsyncIterator[Desk]:
    await create_tables(database, BusBase.metadata)
    desk = Desk()
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        desk.consumer = Consumer(
            topic=TOPIC,
            handler=desk.handle,
            service="test",
            database=database,
            identity=identity,
            clock=SystemClock(),
            telemetry=telemetry,
            commits=GroupCommit(database, lambda: None),
            policy=QUICK,
            breaker=DlqCircuitBreaker(in_a_row=2),
        )
        yield desk
        for gate in desk.gates.values():
            gate.set()
        for dispatcher in desk.dispatchers:
            await dispatcher.drain(10)


def dispatcher_of(
    desk: Desk, most: int = 17, on_trip: Callable[[], None] = lambda: None
) -> OrderedDispatcher:
    desk.dispatchers.append(OrderedDispatcher(desk.consumer, on_trip, max_concurrency=most))
    return desk.dispatchers[-1]


async def put(
    dispatcher: OrderedDispatcher, desk: Desk, offset: int, key: str, partition: int = 0
) -> None:
    await dispatcher.put([record(offset, key, partition)], desk.commit)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def test_neighbours_pass_a_record_in_trouble_and_its_own_key_waits(desk: Desk) -> None:
    dispatcher, gate = dispatcher_of(desk), desk.stick(0)
    for offset, key in enumerate(["a", "b", "a", "c", "a"]):
        await put(dispatcher, desk, offset, key)
    await until(lambda: sorted(desk.done) == [1, 3])
    gate.set()
    await until(lambda: len(desk.done) == 5)
    assert [x for x in desk.done if x % 2 == 0] == [0, 2, 4]


async def test_no_offset_is_committed_before_all_records_up_to_it_are_settled(desk: Desk) -> None:
    dispatcher, gate = dispatcher_of(desk), desk.stick(1)
    for offset, key in enumerate(["a", "b", "c", "d"]):
        await put(dispatcher, desk, offset, key)
    await until(lambda: sorted(desk.done) == [0, 2, 3])
    assert max(desk.committed) == (0, 1)
    gate.set()
    await until(lambda: max(desk.committed) == (0, 4))


async def test_partitions_have_offsets_of_their_own(desk: Desk) -> None:
    dispatcher, gate = dispatcher_of(desk), desk.stick(7)
    await put(dispatcher, desk, 7, "a", partition=0)
    await put(dispatcher, desk, 3, "b", partition=1)
    await until(lambda: desk.committed == [(1, 4)])
    gate.set()
    await until(lambda: (0, 8) in desk.committed)


async def test_a_dispatcher_without_room_takes_one_at_a_time(desk: Desk) -> None:
    dispatcher, gate = dispatcher_of(desk, most=1), desk.stick(0)
    first = asyncio.create_task(put(dispatcher, desk, 0, "a"))
    await asyncio.sleep(0.1)
    assert not first.done()
    gate.set()
    await first
    assert desk.done == [0]


async def test_the_room_beside_a_record_in_trouble_is_bounded(desk: Desk) -> None:
    dispatcher = dispatcher_of(desk, most=3)
    gates = [desk.stick(offset) for offset in range(3)]
    await put(dispatcher, desk, 0, "a")
    await put(dispatcher, desk, 1, "b")
    third = asyncio.create_task(put(dispatcher, desk, 2, "c"))
    await asyncio.sleep(0.1)
    assert not third.done()
    gates[1].set()
    await third


async def test_nothing_is_begun_while_a_record_waits_for_an_unavailable_dependency(
    desk: Desk,
) -> None:
    dispatcher, desk.is_down = dispatcher_of(desk), True
    first = asyncio.create_task(put(dispatcher, desk, 0, "a"))
    await until(lambda: len(desk.begun) > 5)
    assert not first.done()
    desk.is_down = False
    await first
    assert desk.done == [0]


async def test_a_dispatcher_that_stops_begins_nothing_and_commits_nothing_of_it(desk: Desk) -> None:
    dispatcher, gate = dispatcher_of(desk), desk.stick(0)
    await put(dispatcher, desk, 0, "a")
    desk.consumer.stopping.set()
    await put(dispatcher, desk, 1, "b")
    await until(lambda: desk.begun == [0])
    await dispatcher.drain(0.05)
    assert (desk.begun, desk.committed) == ([0], [])
    gate.set()
    assert desk.done == []


async def test_a_partition_that_went_and_came_back_starts_where_the_group_is(desk: Desk) -> None:
    dispatcher, gate = dispatcher_of(desk), desk.stick(4)
    await put(dispatcher, desk, 4, "a")
    await put(dispatcher, desk, 5, "b")
    await dispatcher.on_partitions_revoked({TopicPartition(TOPIC.name, 0)})
    await dispatcher.on_partitions_assigned({TopicPartition(TOPIC.name, 0)})
    desk.gates.clear()
    again = asyncio.create_task(put(dispatcher, desk, 4, "a"))
    await until(lambda: desk.begun == [4, 5])
    await asyncio.sleep(0.1)
    assert desk.begun == [4, 5], "the first delivery of the record is still in hand"
    gate.set()
    await again
    await until(lambda: desk.committed == [(0, 5)])


async def test_timeout_follows_the_pace_that_records_have_as_a_rule() -> None:
    timeout = AdaptiveTimeout()
    for _ in range(30):
        timeout.note(0.002)
    assert timeout.seconds == LEAST_TIMEOUT_SECONDS
    for _ in range(30):
        timeout.note(0.5)
    assert 1.4 < timeout.seconds < 1.5


async def test_a_commit_that_fails_is_made_good_by_the_next(desk: Desk) -> None:
    dispatcher = dispatcher_of(desk)
    desk.refuses_commit = True
    await put(dispatcher, desk, 0, "a")
    await until(lambda: desk.done == [0])
    await asyncio.sleep(COMMIT_SECONDS + 0.2)
    desk.refuses_commit = False
    await put(dispatcher, desk, 1, "b")
    await until(lambda: desk.committed[-1:] == [(0, 2)])


async def test_a_flood_hands_back_what_was_set_aside(desk: Desk) -> None:
    stops: list[int] = []
    dispatcher = dispatcher_of(desk, on_trip=lambda: stops.append(1))
    desk.stick(0)
    for offset, key in enumerate(["a", "bad", "bad"]):
        await put(dispatcher, desk, offset, key)
    await until(lambda: stops == [1])
    await put(dispatcher, desk, 3, "c")
    await dispatcher.drain(5)
    assert desk.begun == [0, 1, 2]
    assert desk.committed == []
