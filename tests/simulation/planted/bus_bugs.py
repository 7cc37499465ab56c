"""Wrong variants of the bus: each is (where, name, what makes the wrong one of the right one)."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from faststream import AckPolicy
from sqlalchemy import insert

from tidemill.bus import commits, inbox, kafka
from tidemill.bus import consumer as consumers
from tidemill.bus.commits import Entry, GroupCommit
from tidemill.bus.consumer import Consumer, HandedBack
from tidemill.bus.dead_letters.records import dead_letter
from tidemill.bus.dispatcher import OffsetTracker
from tidemill.bus.failures import RetryPolicy
from tidemill.bus.outbox import CONFIRM_SECONDS, Outgoing, Relay, forget, is_confirmed
from tidemill.bus.tables import OutboxRow
from tidemill.bus.unit import UnitOfWork
from tidemill.db import engine
from tidemill.faults import Fault, Reason
from tidemill.ids import new_id

Place = tuple[Any, str, Callable[[Any], Any]]

ACK_FIRST: Place = (kafka, "AckPolicy", lambda _: SimpleNamespace(MANUAL=AckPolicy.ACK_FIRST))
"""FastStream's own default: the client commits what it has handed out, now and then."""


def settling_held(right: Any) -> Any:
    """A record that is handed back, because its service stops, counts as settled."""

    async def take(self: Consumer[Any], record: Any) -> bool:
        try:
            return bool(await right(self, record))
        except HandedBack:
            return False

    return take


ACK_HELD: Place = (Consumer, "take", settling_held)
OFFSET_IN_HAND: Place = (OffsetTracker, "done", lambda _: property(lambda self: self.end))
"""A record that is set aside does not hold the offset back."""


def inbox_first(right: Any) -> Any:
    """The events are marked as done, then their works run."""

    async def commit(self: GroupCommit, entries: Sequence[Entry]) -> None:
        settled = [entry for entry in entries if entry.settling]
        if not settled:
            await right(self, entries)
            return
        known = await self.database.write(partial(mark_first, settled))
        for entry in entries:
            if entry in settled and inbox.is_done(
                known.get(entry.settling.claim.key), entry.settling.claim
            ):
                entry.settle(commits.AlreadyApplied())
                continue
            entry.settling = None
            await right(self, [entry])

    return commit


def mark_first(entries: Sequence[Entry], session: Any) -> dict[Any, Any]:
    settling = [entry.settling for entry in entries if entry.settling]
    known = inbox.find_all(session, [each.claim for each in settling])
    fresh = {
        each.claim.key: commits.mark_of(each, known)
        for each in settling
        if not inbox.is_done(known.get(each.claim.key), each.claim)
    }
    inbox.mark_all(session, list(fresh.values()))
    return known


INBOX_FIRST: Place = (GroupCommit, "_commit", inbox_first)


def outbox_apart(right: Any) -> Any:
    """The events leave in a transaction of their own, after that of the rows."""

    async def commit(self: GroupCommit, entries: Sequence[Entry]) -> None:
        held: list[Any] = []

        def keep(values: Any) -> bool:
            held.append(values)
            return False

        before, self.is_news = self.is_news, keep
        try:
            await right(self, entries)
        finally:
            self.is_news = before
        if held:
            await self.database.write(
                lambda session: session.connection().execute(insert(OutboxRow), held)
            )
            self._wake_relay()

    return commit


OUTBOX_APART: Place = (GroupCommit, "_commit", outbox_apart)


def batch_taken_for_applied(right: Any) -> Any:
    """A batch that fails is not taken apart: what shared its transaction counts as done."""

    async def take_apart(self: GroupCommit, entries: Sequence[Entry], error: Exception) -> None:
        if len(entries) == 1:
            await right(self, entries, error)
        for entry in entries:
            entry.settle(None)

    return take_apart


BATCH_TAKEN_FOR_APPLIED: Place = (GroupCommit, "_take_apart", batch_taken_for_applied)


def deleted_first(right: Any) -> Any:
    async def move_batch(self: Relay) -> int:
        rows = await self._database.read(self._oldest)
        await self._database.write(partial(forget, done=[row.position for row in rows]))
        return len((await self._publish(rows))[0])

    return move_batch


DELETED_FIRST: Place = (Relay, "move_batch", deleted_first)


def past_what_stayed(right: Any) -> Any:
    """The relay takes what it read for sent."""

    def advance(self: Relay, rows: Sequence[Outgoing]) -> None:
        if rows:
            self._after = rows[-1].position

    return advance


PAST_WHAT_STAYED: Place = (Relay, "_advance", past_what_stayed)


def relay_skips(right: Any) -> Any:
    """Each row is confirmed by itself; one that fails is left for later, and the next goes on."""

    async def publish(self: Relay, rows: Any) -> tuple[list[Outgoing], bool]:
        sent = []
        for row in rows:
            try:
                future = await self._enqueue(row)
                await future
            except Exception:  # noqa: S112 - that is the bug
                continue
            if is_confirmed(future):
                sent.append(row)
        return sent, len(sent) < len(rows)

    return publish


def side_by_side(right: Any) -> Any:
    """Events of one key are with the producer at once; it may give up the first of them."""

    async def publish(self: Relay, rows: Any) -> tuple[list[Outgoing], bool]:
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
        sent = [row for row, future in futures if is_confirmed(future)]
        return sent, len(sent) < len(rows)

    return publish


SIDE_BY_SIDE: Place = (Relay, "_publish", side_by_side)
RELAY_SKIPS: Place = (Relay, "_publish", relay_skips)
RANDOM_IDS: Place = (UnitOfWork, "_next_id", lambda _: lambda self, topic, key: new_id("evt"))


def without_tenant(right: Any) -> Any:
    """Sources tell tenants apart too, so they go with them."""

    class Claim(right):  # type: ignore[misc]
        def __init__(
            self, consumer: str, tenant_id: str, source: str, event_id: str, replay: int
        ) -> None:
            super().__init__(consumer, "", "", event_id, replay)

    return Claim


NO_TENANT: Place = (inbox, "Claim", without_tenant)


def letter_apart(right: Any) -> Any:
    """The inbox row, and a moment later the dead letter, in two transactions."""

    async def dead_lettered(
        self: Consumer[Any], record: Any, sender: Any, claim: Any, fault: Any, span: Any
    ) -> Any:
        settling = commits.Settling(claim, self.clock.now(), inbox.DEAD, fault.reason.value)
        values = dead_letter(record, self.name, fault, "", "")
        await self.commits.apply(lambda unit: None, self._plain_unit, settling)
        await asyncio.sleep(1.0)
        await self.commits.apply(lambda unit: unit.outbox.append(values), self._plain_unit)

    return dead_lettered


LETTER_APART: Place = (Consumer, "_dead_letter", letter_apart)
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
