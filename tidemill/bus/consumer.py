"""Takes a record to its handler: applied, parked as a dead letter, or held."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic

import structlog
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from tidemill.bus import inbox
from tidemill.bus.attempt import Handler, attempt
from tidemill.bus.delivery import Delivery
from tidemill.bus.envelope import (
    CONSUMER,
    TOKEN,
    TRACEPARENT,
    Record,
    check_attributes,
    decode,
    split_key,
)
from tidemill.bus.parking import dead_letter, healed_mark
from tidemill.bus.policy import Failure, FloodBrake, Kind, RetryPolicy
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.telemetry import Telemetry, catalogue
from tidemill.telemetry.catalogue import Outcome
from tidemill.telemetry.tracing import context_of, traceparent_of
from tidemill.topics import M, Topic

log = structlog.get_logger()


class Held(Exception):
    """The delivery could not be finished; the record must be delivered again."""


@dataclass(frozen=True)
class Sender:
    """Whose event it is, verified where outsiders write."""

    tenant_id: str
    aggregate_id: str

    @property
    def key(self) -> str:
        """Of the event's record."""
        return f"{self.tenant_id}/{self.aggregate_id}"


@dataclass
class Consumer(Generic[M]):
    """One service's handler of one topic."""

    topic: Topic[M]
    handler: Handler[M]
    service: str
    database: Database
    identity: Identity
    clock: Clock
    telemetry: Telemetry
    wake_relay: Callable[[], None]
    timeout: float = 60.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    brake: FloodBrake = field(default_factory=FloodBrake)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    # Set whenever `held` changes, for whoever waits for that.
    news: asyncio.Event = field(default_factory=asyncio.Event)
    # Origins of the records that wait for a part that is down.
    held: set[str] = field(default_factory=set)
    finished: int = 0
    # Monotonic time of the last sign of life of the record that gives none for the longest: a try
    # that began, a record that ended.
    pulse: float = 0.0
    _pulses: dict[int, float] = field(default_factory=dict)
    _retried: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def name(self) -> str:
        return f"{self.service}/{self.topic.name}"

    async def take(self, record: Record) -> bool:
        """Finish the record or raise Held. Returns only when its outcome is in the database.

        True when that took no second try.
        """
        started = self.clock.monotonic()
        self.idle.clear()
        self._beat(record)
        outcome = Outcome.HELD
        try:
            outcome = await self._finish(record)
            self.finished += 1
            return record.origin not in self._retried
        except Fault as storage:
            log.warning("delivery_held", consumer=self.name, reason=storage.reason.value)
            raise Held from storage
        finally:
            self._lay_down(record)
            self._retried.discard(record.origin)
            elapsed = self.clock.monotonic() - started
            self.telemetry.observe(catalogue.DELIVERY_SECONDS, elapsed, consumer=self.name)
            self.telemetry.count(catalogue.DELIVERIES, consumer=self.name, outcome=outcome.value)

    def _beat(self, record: Record) -> None:
        self._pulses[id(record)] = self.clock.monotonic()
        self.pulse = min(self._pulses.values())

    def _lay_down(self, record: Record) -> None:
        del self._pulses[id(record)]
        self.pulse = min(self._pulses.values(), default=self.clock.monotonic())
        if not self._pulses:
            self.idle.set()

    @contextmanager
    def holding(self, record: Record) -> Iterator[None]:
        """While it lasts, the record waits for a part that is down."""
        self.held.add(record.origin)
        self.news.set()
        try:
            yield
        finally:
            self.held.discard(record.origin)
            self.news.set()

    async def _finish(self, record: Record) -> Outcome:
        # A replayed dead letter names the consumer that it is for.
        if record.headers.get(CONSUMER, self.name) != self.name:
            return Outcome.SKIPPED
        sender = self._sender(record)
        claim = self._claim(record, sender)
        async with self.database.session() as session:
            row = await inbox.find(session, claim)
        if not inbox.is_done(row, claim):
            return await self._traced(record, sender, claim)
        if record.replay and row is not None and row.outcome == inbox.APPLIED:
            await self._tell_healed(record)
        return Outcome.DUPLICATE

    async def _tell_healed(self, record: Record) -> None:
        """Its letter may be older than the rows: then they were rebuilt without its death."""
        async with self.database.transaction() as session:
            session.add(healed_mark(record, self.name))
        self.wake_relay()

    def _sender(self, record: Record) -> Sender | Fault:
        try:
            tenant, aggregate = split_key(record.key)
            if self.topic.write_scope:
                self._verify(record, tenant, self.topic.write_scope)
            check_attributes(self.topic, record)
        except Fault as fault:
            return fault
        return Sender(tenant, aggregate)

    def _verify(self, record: Record, tenant: str, scope: str) -> None:
        token = record.headers.get(TOKEN, "")
        caller = self.identity.verifier.verify(token, EVENT_AUDIENCE, at=record.time)
        caller.require(scope)
        if caller.tenant_id != tenant:
            raise Fault(Reason.TENANT_MISMATCH)

    def _claim(self, record: Record, sender: Sender | Fault) -> inbox.Claim:
        """An unverified sender may not choose an id: it could be that of another's event."""
        if isinstance(sender, Fault):
            return inbox.Claim(self.name, "", record.origin, record.replay)
        return inbox.Claim(self.name, sender.tenant_id, record.event_id, record.replay)

    async def _traced(self, record: Record, sender: Sender | Fault, claim: inbox.Claim) -> Outcome:
        with self.telemetry.tracer.start_as_current_span(
            f"process {self.topic.name}",
            context=context_of(record.headers.get(TRACEPARENT, "")),
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.destination.name": self.topic.name,
                "messaging.kafka.offset": record.offset,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.message.id": claim.event_id,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            fault = sender if isinstance(sender, Fault) else await self._try(record, sender)
            outcome = await self._settle(record, claim, fault, span)
        self.wake_relay()
        return outcome

    async def _settle(
        self, record: Record, claim: inbox.Claim, fault: Fault | None, span: Span
    ) -> Outcome:
        if fault is None:
            self.brake.applied()
            return Outcome.APPLIED
        span.set_status(Status(StatusCode.ERROR, fault.reason.value))
        await self._park(record, claim, fault, traceparent_of(span))
        self.brake.parked()
        return Outcome.DEAD_LETTERED

    async def _try(self, record: Record, sender: Sender) -> Fault | None:
        """None when applied, else the fault to park it with."""
        try:
            message = decode(self.topic, record)
        except Fault as unreadable:
            return unreadable
        delivery = self._delivery(record, sender)
        started, tries, own = self.clock.monotonic(), 0, 0
        with ExitStack() as waiting:
            while True:
                tries += 1
                self._beat(record)
                failure = await attempt(self.handler, message, delivery, self.timeout)
                if failure is None:
                    return None
                # Waiting for a part that is down uses up none of the handler's own tries.
                own += failure.kind is not Kind.DEPENDENCY
                elapsed = self.clock.monotonic() - started
                if not self.policy.again(failure, own, elapsed, self.timeout):
                    return failure.fault
                if failure.kind is Kind.DEPENDENCY:
                    waiting.enter_context(self.holding(record))
                await self._pause(record, failure, tries)

    async def _pause(self, record: Record, failure: Failure, tries: int) -> None:
        """Wait before the next try; a service that stops hands the record back at once."""
        reason = failure.fault.reason.value
        held = failure.kind is Kind.DEPENDENCY
        self._retried.add(record.origin)
        log.warning("delivery_retried", consumer=self.name, reason=reason, tries=tries, held=held)
        self.telemetry.count(catalogue.DELIVERY_RETRIES, consumer=self.name, reason=reason)
        await self.rest(self.policy.backoff.delay(tries))
        if self.stopping.is_set():
            raise Held

    async def rest(self, seconds: float) -> None:
        """Sleep, or less when the service stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    def _delivery(self, record: Record, sender: Sender) -> Delivery:
        return Delivery(
            record=record,
            consumer=self.name,
            tenant_id=sender.tenant_id,
            aggregate_id=sender.aggregate_id,
            database=self.database,
            clock=self.clock,
        )

    async def _park(
        self, record: Record, claim: inbox.Claim, fault: Fault, traceparent: str
    ) -> None:
        """Inbox row "dead" and dead letter in one transaction, so it is never both or neither."""
        async with self.database.transaction() as session:
            session.add(dead_letter(record, self.name, fault, traceparent))
            row = await inbox.find(session, claim)
            await inbox.mark(session, claim, inbox.DEAD, self.clock.now(), row=row)
        log.error("event_dead_lettered", consumer=self.name, reason=fault.reason.value)
        self.telemetry.count(catalogue.DEAD_LETTERS, consumer=self.name, reason=fault.reason.value)
