"""One delivery of one event to one consumer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from tidemill.bus import inbox
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.bus.parking import healed_mark
from tidemill.bus.unit import Unit
from tidemill.clock import Clock
from tidemill.db import Database


class AlreadyApplied(Exception):
    """The event was applied by an earlier delivery; the bus takes it as done."""


@dataclass
class Delivery:
    """What a handler knows of an event besides its message.

    tenant_id: from the verified token on topics that outsiders write to, else from the key.
    time: when the broker took the event (outsiders' topics) or when it was published.
    """

    record: Record
    consumer: str
    tenant_id: str
    aggregate_id: str
    database: Database = field(repr=False)
    clock: Clock = field(repr=False)
    applied: bool = False

    @property
    def event_id(self) -> str:
        return self.record.event_id

    @property
    def key(self) -> str:
        return f"{self.tenant_id}/{self.aggregate_id}"

    @property
    def time(self) -> datetime:
        return self.record.time

    @property
    def traceparent(self) -> str:
        return self.record.headers.get(TRACEPARENT, "")

    @property
    def replay(self) -> int:
        """0 at first, n for the n-th replay of the dead letter."""
        return self.record.replay

    @property
    def claim(self) -> inbox.Claim:
        return inbox.Claim(self.consumer, self.tenant_id, self.event_id, self.replay)

    @asynccontextmanager
    async def apply(self) -> AsyncIterator[Unit]:
        """One transaction: the inbox row, the handler's rows and the events it publishes.

        Do slow work before entering, and enter once. Raises AlreadyApplied when there is nothing
        to do.
        """
        if self.applied:
            raise RuntimeError("a delivery is applied in one transaction, not in two")
        async with self.database.transaction() as session:
            row = await inbox.find(session, self.claim)
            if inbox.is_done(row, self.claim):
                raise AlreadyApplied
            yield self._unit(session)
            if self.replay:
                session.add(healed_mark(self.record, self.consumer))
            await inbox.mark(session, self.claim, inbox.APPLIED, self.clock.now(), row=row)
        self.applied = True

    def _unit(self, session: AsyncSession) -> Unit:
        return Unit(
            session=session,
            source=self.consumer.partition("/")[0],
            tenant_id=self.tenant_id,
            clock=self.clock,
            cause=self.event_id,
            consumer=self.consumer,
        )
