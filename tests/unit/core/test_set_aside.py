"""Records in hand: neighbours pass one in trouble, its key waits, offsets follow what is done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
from tidemill.bus.consumer import Consumer
from tidemill.bus.envelope import Record
from tidemill.bus.line import LEAST_PATIENCE_SECONDS, Line, Patience
from tidemill.bus.policy import FloodBrake, RetryPolicy
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
    lines: list[Line] = field(default_factory=list)

    async def handle(self, message: Any, delivery: Delivery) -> None:
        offset = delivery.record.offset
        self.begun.append(offset)
        if offset in self.gates:
            await self.gates[offset].wait()
        if self.is_down:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE)
        if delivery.aggregate_id == "bad":
            raise Fault(Reason.DOCUMENT_BROKEN)
        async with delivery.apply():
            self.done.append(offset)

    def stick(self, offset: int) -> asyncio.Event:
        return self.gates.setdefault(offset, asyncio.Event())

    def commit(self, partition: int = 0) -> Callable[[int], Awaitable[None]]:
        async def commit(offset: int) -> None:
            if self.refuses_commit:
                raise CommitFailedError("rebalance")
            self.committed.append((partition, offset))

        return commit


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
            wake_relay=lambda: None,
            policy=QUICK,
            brake=FloodBrake(in_a_row=2),
        )
        yield desk
        for gate in desk.gates.values():
            gate.set()
        for line in desk.lines:
            await line.drain(10)


def line_of(desk: Desk, beside: int = 16, on_flood: Callable[[], None] = lambda: None) -> Line:
    desk.lines.append(Line(desk.consumer, beside, on_flood))
    return desk.lines[-1]


async def put(line: Line, desk: Desk, offset: int, key: str, partition: int = 0) -> None:
    await line.put(record(offset, key, partition), desk.commit(partition))


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def test_neighbours_pass_a_record_in_trouble_and_its_own_key_waits(desk: Desk) -> None:
    line, gate = line_of(desk), desk.stick(0)
    for offset, key in enumerate(["a", "b", "a", "c", "a"]):
        await put(line, desk, offset, key)
    await until(lambda: sorted(desk.done) == [1, 3])
    gate.set()
    await until(lambda: len(desk.done) == 5)
    assert [x for x in desk.done if x % 2 == 0] == [0, 2, 4]


async def test_no_offset_is_committed_before_all_records_up_to_it_are_settled(desk: Desk) -> None:
    line, gate = line_of(desk), desk.stick(1)
    for offset, key in enumerate(["a", "b", "c", "d"]):
        await put(line, desk, offset, key)
    await until(lambda: sorted(desk.done) == [0, 2, 3])
    assert max(desk.committed) == (0, 1)
    gate.set()
    await until(lambda: max(desk.committed) == (0, 4))


async def test_partitions_have_offsets_of_their_own(desk: Desk) -> None:
    line, gate = line_of(desk), desk.stick(7)
    await put(line, desk, 7, "a", partition=0)
    await put(line, desk, 3, "b", partition=1)
    await until(lambda: desk.committed == [(1, 4)])
    gate.set()
    await until(lambda: (0, 8) in desk.committed)


async def test_a_line_without_room_takes_one_at_a_time(desk: Desk) -> None:
    line, gate = line_of(desk, beside=0), desk.stick(0)
    first = asyncio.create_task(put(line, desk, 0, "a"))
    await asyncio.sleep(0.1)
    assert not first.done()
    gate.set()
    await first
    assert desk.done == [0]


async def test_the_room_beside_a_record_in_trouble_is_bounded(desk: Desk) -> None:
    line = line_of(desk, beside=2)
    gates = [desk.stick(offset) for offset in range(3)]
    await put(line, desk, 0, "a")
    await put(line, desk, 1, "b")
    third = asyncio.create_task(put(line, desk, 2, "c"))
    await asyncio.sleep(0.1)
    assert not third.done()
    gates[1].set()
    await third


async def test_nothing_is_begun_while_a_record_waits_for_a_part_that_is_down(desk: Desk) -> None:
    line, desk.is_down = line_of(desk), True
    first = asyncio.create_task(put(line, desk, 0, "a"))
    await until(lambda: len(desk.begun) > 5)
    assert not first.done()
    desk.is_down = False
    await first
    assert desk.done == [0]


async def test_a_line_that_stops_begins_nothing_and_commits_nothing_of_it(desk: Desk) -> None:
    line, gate = line_of(desk), desk.stick(0)
    await put(line, desk, 0, "a")
    desk.consumer.stopping.set()
    await put(line, desk, 1, "b")
    await until(lambda: desk.begun == [0])
    await line.drain(0.05)
    assert (desk.begun, desk.committed) == ([0], [])
    gate.set()
    assert desk.done == []


async def test_a_partition_that_went_and_came_back_starts_where_the_group_is(desk: Desk) -> None:
    line, gate = line_of(desk), desk.stick(4)
    await put(line, desk, 4, "a")
    await put(line, desk, 5, "b")
    await line.on_partitions_revoked({TopicPartition("t", 0)})
    await line.on_partitions_assigned({TopicPartition("t", 0)})
    desk.gates.clear()
    again = asyncio.create_task(put(line, desk, 4, "a"))
    await until(lambda: desk.begun == [4, 5])
    await asyncio.sleep(0.1)
    assert desk.begun == [4, 5], "the first delivery of the record is still in hand"
    gate.set()
    await again
    await until(lambda: desk.committed == [(0, 5)])


async def test_patience_follows_the_pace_that_records_have_as_a_rule() -> None:
    patience = Patience()
    for _ in range(30):
        patience.note(0.002)
    assert patience.seconds == LEAST_PATIENCE_SECONDS
    for _ in range(30):
        patience.note(0.5)
    assert 1.4 < patience.seconds < 1.5


async def test_a_commit_that_fails_is_made_good_by_the_next(desk: Desk) -> None:
    line = line_of(desk)
    desk.refuses_commit = True
    await put(line, desk, 0, "a")
    await until(lambda: desk.done == [0])
    await line.drain(5)
    desk.refuses_commit = False
    await put(line, desk, 1, "b")
    await until(lambda: desk.committed == [(0, 2)])


async def test_a_flood_hands_back_what_was_set_aside(desk: Desk) -> None:
    stops: list[int] = []
    line = line_of(desk, on_flood=lambda: stops.append(1))
    desk.stick(0)
    for offset, key in enumerate(["a", "bad", "bad"]):
        await put(line, desk, offset, key)
    await until(lambda: stops == [1])
    await put(line, desk, 3, "c")
    await line.drain(5)
    assert desk.begun == [0, 1, 2]
    assert desk.committed == []
