"""A consumer that takes the log from its beginning into a new store."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.trace import Span

from tidemill.bus import inbox
from tidemill.bus.attempt import nothing
from tidemill.bus.commits import Settling
from tidemill.bus.consumer import Consumer, Sender
from tidemill.bus.envelope import Record
from tidemill.bus.failures import Failure, Tries
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

    dead_lettered: places of the records that the service gave up, and why, as its dead letters
    say. left: for each partition the first offset that was left to the service.
    """

    dead_lettered: Mapping[str, str] = field(default_factory=dict)
    leaves: Leaves | None = None
    left: dict[int, int] = field(default_factory=dict)

    async def _settle(
        self,
        record: Record,
        sender: Sender | Fault,
        claim: inbox.Claim,
        span: Span,
        tries: Tries,
    ) -> Outcome:
        if await self._is_left(record, sender):
            first = min(record.offset, self.left.get(record.partition, record.offset))
            self.left[record.partition] = first
            return Outcome.SKIPPED
        return await super()._settle(record, sender, claim, span, tries)

    async def _is_left(self, record: Record, sender: Sender | Fault) -> bool:
        if self.leaves is None or isinstance(sender, Fault) or record.origin in self.dead_lettered:
            return False
        return await self.leaves(record, sender)

    def _message(self, record: Record, sender: Sender | Fault) -> tuple[M | None, Fault | None]:
        if record.origin in self.dead_lettered:
            return None, Fault(Reason.FAILED_PRECONDITION)
        return super()._message(record, sender)

    async def _dead_letter(
        self,
        record: Record,
        sender: Sender | Fault,
        claim: inbox.Claim,
        fault: Fault | None,
        span: Span,
    ) -> Failure | None:
        """What was dead-lettered is marked so; what cannot be applied for a passing reason stops
        all."""
        if record.origin in self.dead_lettered:
            reason = self.dead_lettered[record.origin]
            settling = Settling(claim, self.clock.now(), inbox.DEAD, reason)
            await self.commits.apply(nothing, self._plain_unit, settling)
            return None
        if fault is not None and (fault.retryable or fault.reason in PASSING):
            raise ReplayFailed(self.name, record.origin, fault.reason.value)
        return await super()._dead_letter(record, sender, claim, fault, span)

    def message_of(self, record: Record) -> M | None:
        """The event of a verified sender that this consumer is for; None for any other record."""
        sender = self._sender(record)
        return self._message(record, sender)[0] if self._is_for(sender) else None
