"""A consumer that takes the log from its beginning into a new store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tidemill.bus import inbox
from tidemill.bus.consumer import Consumer, Sender
from tidemill.bus.envelope import Record, decode
from tidemill.faults import Fault, Reason
from tidemill.telemetry.catalogue import Outcome
from tidemill.topics import M

Leaves = Callable[[Record, Sender], Awaitable[bool]]
"""Whether a record is left to the service."""

# What the same event may not meet again on another day.
PASSING = (Reason.INTERNAL, Reason.DEADLINE_EXCEEDED)


class ReplayFailed(Exception):
    """An event that the service applied cannot be applied to the new store.

    place: topic/partition/offset of the event.
    """

    def __init__(self, consumer: str, place: str, reason: str) -> None:
        super().__init__(f"{consumer}: {place}: {reason}")
        self.consumer = consumer
        self.place = place
        self.reason = reason


@dataclass
class ReplayConsumer(Consumer[M]):
    """Applies what was applied, and gives up what was given up, without a second dead letter.

    parked: places of the records that the service gave up, as its dead letters name them.
    left: for each partition the first offset that was left to the service.
    """

    parked: frozenset[str] = frozenset()
    leaves: Leaves | None = None
    left: dict[int, int] = field(default_factory=dict)

    async def _traced(self, record: Record, sender: Sender | Fault, claim: inbox.Claim) -> Outcome:
        if await self._is_left(record, sender):
            self.left.setdefault(record.partition, record.offset)
            return Outcome.SKIPPED
        return await super()._traced(record, sender, claim)

    async def _is_left(self, record: Record, sender: Sender | Fault) -> bool:
        if self.leaves is None or isinstance(sender, Fault) or record.origin in self.parked:
            return False
        return await self.leaves(record, sender)

    async def _try(self, record: Record, sender: Sender) -> Fault | None:
        if record.origin in self.parked:
            return Fault(Reason.FAILED_PRECONDITION)
        return await super()._try(record, sender)

    async def _park(
        self, record: Record, claim: inbox.Claim, fault: Fault, traceparent: str
    ) -> None:
        """What was parked is marked so; what cannot be applied for a passing reason stops all."""
        if record.origin in self.parked:
            async with self.database.transaction() as session:
                row = await inbox.find(session, claim)
                await inbox.mark(session, claim, inbox.DEAD, self.clock.now(), row=row)
        elif fault.retryable or fault.reason in PASSING:
            raise ReplayFailed(self.name, record.origin, fault.reason.value)
        else:
            await super()._park(record, claim, fault, traceparent)

    def message_of(self, record: Record) -> M | None:
        """The event of a verified sender; None for any other record."""
        try:
            return None if isinstance(self._sender(record), Fault) else decode(self.topic, record)
        except Fault:
            return None
