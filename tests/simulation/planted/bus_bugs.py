"""Wrong variants of the bus: each is (where, name, what makes the wrong one of the right one)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from faststream import AckPolicy
from sqlalchemy import delete

from tidemill.bus import consumer as consumers
from tidemill.bus import inbox, kafka
from tidemill.bus.consumer import Consumer
from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.line import Line
from tidemill.bus.line import Place as Place_
from tidemill.bus.outbox import CONFIRM_SECONDS, Relay, is_confirmed
from tidemill.bus.parking import dead_letter
from tidemill.bus.policy import RetryPolicy
from tidemill.bus.tables import OutboxRow
from tidemill.bus.unit import Unit
from tidemill.db import engine
from tidemill.faults import Fault, Reason
from tidemill.ids import new_id

Place = tuple[Any, str, Callable[[Any], Any]]

ACK_FIRST: Place = (kafka, "AckPolicy", lambda _: SimpleNamespace(MANUAL=AckPolicy.ACK_FIRST))
"""FastStream's own default: the client commits what it has handed out, now and then."""


def settling_held(right: Any) -> Any:
    """A delivery that could not be finished counts as settled."""

    async def settled(self: Line, record: Any) -> bool:
        try:
            await self._consumer.take(record)
        except Exception:
            return True
        return True

    return settled


ACK_HELD: Place = (Line, "_settled", settling_held)
OFFSET_IN_HAND: Place = (Place_, "done", lambda _: property(lambda self: self.end))
"""A record that is set aside does not hold the offset back."""


def inbox_first(right: Any) -> Any:
    @asynccontextmanager
    async def apply(self: Delivery) -> AsyncIterator[Unit]:
        async with self.database.transaction() as session:
            row = await inbox.find(session, self.claim)
            if inbox.is_done(row, self.claim):
                raise AlreadyApplied
            await inbox.mark(session, self.claim, inbox.APPLIED, self.clock.now(), row=row)
        async with self.database.transaction() as session:
            yield self._unit(session)
        self.applied = True

    return apply


INBOX_FIRST: Place = (Delivery, "apply", inbox_first)


def outbox_apart(right: Any) -> Any:
    @asynccontextmanager
    async def apply(self: Delivery) -> AsyncIterator[Unit]:
        async with right(self) as unit:
            yield unit
            rows = [row for row in unit.session.new if isinstance(row, OutboxRow)]
            for row in rows:
                unit.session.expunge(row)
        async with self.database.transaction() as session:
            session.add_all(rows)

    return apply


OUTBOX_APART: Place = (Delivery, "apply", outbox_apart)


def deleted_first(right: Any) -> Any:
    async def move_batch(self: Relay) -> int:
        rows = await self._oldest()
        async with self._database.transaction() as session:
            done = OutboxRow.position.in_([row.position for row in rows])
            await session.execute(delete(OutboxRow).where(done))
        return len(await self._publish(rows))

    return move_batch


DELETED_FIRST: Place = (Relay, "move_batch", deleted_first)


def relay_skips(right: Any) -> Any:
    """Each row is confirmed by itself; one that fails is left for later, and the next goes on."""

    async def publish(self: Relay, rows: Any) -> list[OutboxRow]:
        sent = []
        for row in rows:
            try:
                future = await self._enqueue(row)
                await future
            except Exception:  # noqa: S112 - that is the bug
                continue
            if is_confirmed(future):
                sent.append(row)
        return sent

    return publish


def side_by_side(right: Any) -> Any:
    """Events of one key are with the producer at once; it may give up the first of them."""

    async def publish(self: Relay, rows: Any) -> list[OutboxRow]:
        futures, failed = [], set()
        for row in rows:
            if row.topic in failed:
                continue
            try:
                futures.append((row, await self._enqueue(row)))
            except Fault:
                failed.add(row.topic)
        if futures:
            await asyncio.wait([future for _, future in futures], timeout=CONFIRM_SECONDS)
        return [row for row, future in futures if is_confirmed(future)]

    return publish


SIDE_BY_SIDE: Place = (Relay, "_publish", side_by_side)
RELAY_SKIPS: Place = (Relay, "_publish", relay_skips)


def by_position(right: Any) -> Any:
    """SQLite gives a position again: what is deleted may be another's new event."""

    async def forget(self: Relay, sent: Any) -> None:
        done = OutboxRow.position.in_([row.position for row in sent])
        async with self._database.transaction() as session:
            await session.execute(delete(OutboxRow).where(done))

    return forget


BY_POSITION: Place = (Relay, "_forget", by_position)
RANDOM_IDS: Place = (Unit, "_next_id", lambda _: lambda self, topic, key: new_id("evt"))


def without_tenant(right: Any) -> Any:
    class Claim(right):  # type: ignore[misc]
        def __init__(self, consumer: str, tenant_id: str, event_id: str, replay: int) -> None:
            super().__init__(consumer, "", event_id, replay)

    return Claim


NO_TENANT: Place = (inbox, "Claim", without_tenant)


def letter_apart(right: Any) -> Any:
    async def park(
        self: Consumer[Any], record: Any, claim: Any, fault: Fault, traceparent: str
    ) -> None:
        async with self.database.transaction() as session:
            row = await inbox.find(session, claim)
            await inbox.mark(session, claim, inbox.DEAD, self.clock.now(), row=row)
        async with self.database.transaction() as session:
            session.add(dead_letter(record, self.name, fault, traceparent))

    return park


LETTER_APART: Place = (Consumer, "_park", letter_apart)
INBOX_IGNORED: Place = (inbox, "is_done", lambda _: lambda row, claim: False)


def endless(right: Any) -> Any:
    def again(self: RetryPolicy, *_: Any) -> bool:
        return True

    return again


ENDLESS: Place = (RetryPolicy, "again", endless)


def swallowed(right: Any) -> Any:
    """A disk that complains is logged, and the delivery counts as done."""

    async def attempt(handler: Any, message: Any, delivery: Any, timeout: float) -> Any:
        failure = await right(handler, message, delivery, timeout)
        storage = (Reason.STORAGE_FULL, Reason.DEPENDENCY_UNAVAILABLE)
        return None if failure is not None and failure.fault.reason in storage else failure

    return attempt


SWALLOWED: Place = (consumers, "attempt", swallowed)


UNFLUSHED: Place = (
    engine, "tune_sqlite", lambda right: lambda made, durable: right(made, durable=False)
)  # fmt: skip
