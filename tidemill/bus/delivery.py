"""One delivery of one event to one consumer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.bus import inbox
from tidemill.bus.envelope import Record
from tidemill.bus.unit import Unit
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.security.tokens import Identity


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
    identity: Identity = field(repr=False)
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
        return self.record.headers.get("traceparent", "")

    @property
    def replay(self) -> int:
        """0 at first, n for the n-th replay of the dead letter."""
        return self.record.replay

    @asynccontextmanager
    async def apply(self) -> AsyncIterator[Unit]:
        """One transaction: the inbox row, the handler's rows and the events it publishes.

        Do slow work before entering. Raises AlreadyApplied when there is nothing to do.
        """
        async with self.database.transaction() as session:
            if await inbox.is_done(session, self.consumer, self.event_id, self.replay):
                raise AlreadyApplied
            unit = Unit(
                session=session,
                source=self.consumer.partition("/")[0],
                tenant_id=self.tenant_id,
                clock=self.clock,
                identity=self.identity,
                cause=self.event_id,
            )
            yield unit
            await inbox.mark(
                session, self.consumer, self.event_id, inbox.APPLIED, self.replay, self.clock.now()
            )
        self.applied = True
