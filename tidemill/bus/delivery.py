"""One delivery of one event to one consumer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import Session

from tidemill.bus import inbox
from tidemill.bus.commits import AlreadyApplied, GroupCommit, Settling
from tidemill.bus.dead_letters.records import healed_values
from tidemill.bus.envelope import TRACEPARENT, Record
from tidemill.bus.unit import UnitOfWork
from tidemill.clock import Clock

__all__ = ["AlreadyApplied", "Delivery"]

T = TypeVar("T")


@dataclass
class Delivery:
    """What a handler knows of an event besides its message.

    tenant_id: from the verified token on topics that outsiders write to, else from the key.
    subject: of that token; empty on topics without one.
    time: when the broker took the event (outsiders' topics) or when it was published.
    """

    record: Record
    consumer: str
    tenant_id: str
    aggregate_id: str
    commits: GroupCommit = field(repr=False)
    clock: Clock = field(repr=False)
    subject: str = ""
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
        read = self.record
        return inbox.Claim(self.consumer, self.tenant_id, read.source, read.event_id, read.replay)

    async def apply(self, work: Callable[[UnitOfWork], T]) -> T:
        """What the work returns, once one transaction has committed the inbox row, the work's own
        rows and the events that it publishes.

        The work is a plain function, run in a database thread, maybe beside those of other events:
        it awaits nothing and touches nothing but its unit. Do slow work before, and apply once.
        Raises AlreadyApplied when there is nothing to do.
        """
        if self.applied:
            raise RuntimeError("a delivery is applied in one transaction, not in two")
        settling = Settling(self.claim, self.clock.now())
        result = await self.commits.apply(self._with_healing(work), self._unit, settling)
        self.applied = True
        return result

    def _with_healing(self, work: Callable[[UnitOfWork], T]) -> Callable[[UnitOfWork], T]:
        """A replay tells its dead letter that the event was applied after all."""
        if not self.replay:
            return work

        def healing(unit: UnitOfWork) -> T:
            result = work(unit)
            unit.outbox.append(healed_values(self.record, self.consumer))
            return result

        return healing

    def _unit(self, session: Session) -> UnitOfWork:
        return UnitOfWork(
            session=session,
            source=self.consumer.partition("/")[0],
            tenant_id=self.tenant_id,
            clock=self.clock,
            cause=self.event_id,
            consumer=self.consumer,
        )
