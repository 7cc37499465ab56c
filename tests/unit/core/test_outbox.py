"""The relay keeps a key's order, survives failures, and deletes only what the broker has."""

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from sqlalchemy import func, select

from tests.tables import create_tables
from tidemill.bus.outbox import BATCH, Outgoing, Relay
from tidemill.bus.tables import BusBase, OutboxRow
from tidemill.db import Database
from tidemill.faults import Fault, Reason


class Broker:
    """Takes rows and confirms them later, or refuses a topic."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refused: set[str] = set()
        self.unconfirmed: set[str] = set()

    async def enqueue(self, row: Outgoing) -> "asyncio.Future[object]":
        if row.topic in self.refused:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker")
        # A small record may find room where a large one waits.
        await asyncio.sleep(0.001 if len(row.value or b"") > 10 else 0)
        self.taken.append(row.position)
        future = asyncio.get_running_loop().create_future()
        if row.topic in self.unconfirmed:
            future.set_exception(ConnectionError("lost"))
        else:
            future.set_result(None)
        return future


@pytest.fixture
async def rows(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Sent rows are deleted at once; how long they stay otherwise has a test of its own."""
    monkeypatch.setattr("tidemill.bus.outbox.SYNCED_SECONDS", 0.0)
    await create_tables(database, BusBase.metadata)
    return database


async def left(database: Database) -> int:
    """Rows of the outbox, sent or not."""
    async with database.session() as session:
        return (await session.scalars(select(func.count()).select_from(OutboxRow))).one()


async def queue(database: Database, *topics: str, value: bytes = b"x") -> None:
    async with database.transaction() as session:
        for number, topic in enumerate(topics):
            size = b"x" * 100 if number % 3 == 0 else value
            session.add(OutboxRow(topic=topic, key=b"acme/a", value=size, headers="{}"))


async def test_rows_leave_in_the_order_of_their_positions(rows: Database) -> None:
    await queue(rows, *["a"] * 30)
    broker = Broker()
    assert await Relay(rows, broker.enqueue).move_batch() == 30
    assert broker.taken == sorted(broker.taken)
    assert await Relay(rows, broker.enqueue).depth() == 0


async def test_a_failing_topic_does_not_hold_up_the_others(rows: Database) -> None:
    await queue(rows, "bad", "good", "bad", "good")
    broker = Broker()
    broker.refused = {"bad"}
    relay = Relay(rows, broker.enqueue)
    with pytest.raises(Fault):
        await relay.move_batch()
    assert await relay.depth() == 2
    broker.refused = set()
    assert await relay.move_batch() == 2


async def test_a_row_without_the_brokers_word_stays(rows: Database) -> None:
    await queue(rows, "a", "lost")
    broker = Broker()
    broker.unconfirmed = {"lost"}
    relay = Relay(rows, broker.enqueue)
    with pytest.raises(Fault):
        await relay.move_batch()
    assert await relay.depth() == 1


async def test_an_event_never_overtakes_an_earlier_one_of_its_key(rows: Database) -> None:
    """A producer gives up a batch that found no leader, and sends the next one when there is."""
    await queue(rows, "a", "a", "b")
    broker = Broker()

    async def enqueue(row: Outgoing) -> "asyncio.Future[object]":
        future = await broker.enqueue(row)
        if row.position != 1:
            return future
        lost = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, lost.set_exception, ConnectionError("lost"))
        return lost

    relay = Relay(rows, enqueue)
    with pytest.raises(Fault):
        await relay.move_batch()
    assert broker.taken == [1, 3]
    assert await relay.depth() == 2


async def test_an_event_under_a_position_that_is_given_again_is_not_lost(rows: Database) -> None:
    """Two processes of a service relay the same rows for a moment, as when one replaces another."""
    await queue(rows, "a")
    taken, confirmed = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def enqueue(row: Outgoing) -> "asyncio.Future[object]":
        taken.set()
        return confirmed

    slow = Relay(rows, enqueue)
    moving = asyncio.create_task(slow.move_batch())
    await taken.wait()
    assert await Relay(rows, Broker().enqueue).move_batch() == 1
    async with rows.transaction() as session:
        session.add(OutboxRow(topic="a", key=b"acme/a", value=b"new", headers='{"ce_id": "new"}'))
    confirmed.set_result(None)
    await moving
    assert await slow.depth() == 1


async def test_a_batch_is_bounded_by_count_and_by_bytes(
    rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue(rows, *["a"] * (BATCH + 1))
    relay = Relay(rows, Broker().enqueue)
    assert await relay.move_batch() == BATCH
    assert await relay.move_batch() == 1
    monkeypatch.setattr("tidemill.bus.outbox.BATCH_BYTES", 50)
    await queue(rows, "a", "a", "a", value=b"y" * 30)
    assert [await relay.move_batch() for _ in range(3)] == [1, 1, 1]


async def test_closing_publishes_what_is_left_and_then_ends(rows: Database) -> None:
    broker = Broker()
    relay = Relay(rows, broker.enqueue)
    running = asyncio.create_task(relay.run())
    await queue(rows, *["a"] * 250)
    relay.close()
    async with asyncio.timeout(10):
        await running
    assert (len(broker.taken), await relay.depth()) == (250, 0)


async def test_closing_ends_although_the_broker_is_away(rows: Database) -> None:
    broker = Broker()
    broker.refused = {"a"}
    relay = Relay(rows, broker.enqueue)
    await queue(rows, "a")
    relay.close()
    async with asyncio.timeout(10):
        await relay.run()
    assert await relay.depth() == 1


async def test_the_relay_goes_on_after_the_broker_returns(rows: Database) -> None:
    broker = Broker()
    broker.refused = {"a"}
    relay = Relay(rows, broker.enqueue)
    await queue(rows, "a")
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0)
    broker.refused = set()
    relay.wake()
    async with asyncio.timeout(10):
        while await relay.depth():
            relay.wake()
            await asyncio.sleep(0.01)
    relay.close()
    await running


async def test_a_sent_row_stays_until_the_brokers_disk_has_the_event(
    rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded broker answers before its disk has the record: a power cut may take it."""
    monkeypatch.setattr("tidemill.bus.outbox.SYNCED_SECONDS", 0.3)
    broker = Broker()
    relay = Relay(rows, broker.enqueue)
    await queue(rows, "a", "a")
    assert await relay.move_batch() == 2
    assert (await relay.depth(), await left(rows)) == (0, 2)
    running = asyncio.create_task(relay.run())
    after_the_power_cut = Broker()
    assert await Relay(rows, after_the_power_cut.enqueue).move_batch() == 2
    async with asyncio.timeout(10):
        await relay.empty.wait()
    assert (await left(rows), broker.taken) == (0, [1, 2])
    relay.close()
    await running


async def test_a_refused_event_holds_up_its_own_key_and_nobody_else(
    rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.bus.outbox.BATCH", 2)
    told: list[tuple[str, str]] = []
    broker, refusing = Broker(), True

    async def enqueue(row: Outgoing) -> "asyncio.Future[object]":
        if row.key == b"acme/bad" and refusing:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(MessageSizeTooLargeError())
            return future
        return await broker.enqueue(row)

    relay = Relay(rows, enqueue, lambda row, reason: told.append((row.topic, reason)))
    async with rows.transaction() as session:
        keys = [b"acme/bad", b"acme/a", b"acme/bad", b"acme/bad", b"acme/bad", b"acme/b"]
        session.add_all(OutboxRow(topic="t", key=key, value=b"x", headers="{}") for key in keys)
    for _ in range(3):
        await relay.move_batch()
    assert (broker.taken, relay.refused) == ([2, 6], 1)
    assert told == [("t", "MessageSizeTooLargeError")]
    monkeypatch.setattr("tidemill.bus.outbox.REFUSED_RETRY_SECONDS", 0.0)
    refusing = False
    relay = Relay(rows, enqueue)
    for _ in range(3):
        await relay.move_batch()
    assert broker.taken[2:] == [1, 3, 4, 5]
    assert await left(rows) == 0
