"""Takes a record to its handler: applied, dead-lettered, or handed back when the service stops."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic

import structlog
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from sqlalchemy.orm import Session

from tidemill.bus import inbox
from tidemill.bus.attempt import Handler, attempt
from tidemill.bus.commits import GroupCommit, Settling
from tidemill.bus.dead_letters.records import dead_letter, healed_values
from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.envelope import (
    CONSUMER,
    TOKEN,
    TRACEPARENT,
    Record,
    check_attributes,
    decode,
    split_key,
)
from tidemill.bus.failures import DlqCircuitBreaker, Failure, Kind, RetryPolicy, Tries, failure_of
from tidemill.bus.unit import UnitOfWork
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.security.tokens import EVENT_AUDIENCE, Identity, service_subject
from tidemill.telemetry import Telemetry, catalogue
from tidemill.telemetry.catalogue import Outcome
from tidemill.telemetry.tracing import context_of, traceparent_of
from tidemill.topics import M, Topic

log = structlog.get_logger()


class HandedBack(Exception):
    """The service stops before the record is finished; it comes again."""


@dataclass(frozen=True)
class Sender:
    """Whose event it is, verified where outsiders write. subject: of the token there."""

    tenant_id: str
    aggregate_id: str
    subject: str = ""

    @property
    def key(self) -> str:
        """Of the event's record."""
        return f"{self.tenant_id}/{self.aggregate_id}"


@dataclass(frozen=True)
class Waiting:
    """Since when (monotonic) a record waits, and for which dependency."""

    since: float
    dependency: str


@dataclass
class Consumer(Generic[M]):
    """One service's handler of one topic.

    look_first: the inbox is asked before the handler runs, which pays for one whose work outside
    the transaction is dear. submissions: on a topic that takes both, the handler is for what
    outsiders submit, not for the owner's facts.
    """

    topic: Topic[M]
    handler: Handler[M]
    service: str
    database: Database
    commits: GroupCommit
    identity: Identity
    clock: Clock
    telemetry: Telemetry
    timeout: float = 60.0
    look_first: bool = True
    submissions: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: DlqCircuitBreaker = field(default_factory=DlqCircuitBreaker)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    # Set whenever `waiting` changes, for whoever waits for that.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    # Records that wait for a dependency, by their origins.
    waiting: dict[str, Waiting] = field(default_factory=dict)
    finished: int = 0
    # Monotonic time of the last sign of life of the record that gives none for the longest: a try
    # that began, a record that ended.
    pulse: float = 0.0
    _pulses: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def name(self) -> str:
        return f"{self.service}/{self.topic.name}"

    async def take(self, record: Record) -> bool:
        """Returns only when the record's outcome is in the database: True when the first try
        brought it. Raises HandedBack when the service stops before."""
        started = self.clock.monotonic()
        self.idle.clear()
        self._beat(record)
        outcome, tries = Outcome.HELD, Tries(started)
        try:
            outcome = await self._finish(record, tries)
            self.finished += 1
            return tries.count == 0
        finally:
            self._lay_down(record)
            elapsed = self.clock.monotonic() - started
            self.telemetry.observe(catalogue.DELIVERY_SECONDS, elapsed, consumer=self.name)
            self.telemetry.count(catalogue.DELIVERIES, consumer=self.name, outcome=outcome.value)

    def _beat(self, record: Record) -> None:
        """A dict keeps its order, so the first entry is the oldest."""
        self._pulses.pop(id(record), None)
        self._pulses[id(record)] = self.clock.monotonic()
        self.pulse = next(iter(self._pulses.values()))

    def _lay_down(self, record: Record) -> None:
        del self._pulses[id(record)]
        self.pulse = next(iter(self._pulses.values()), self.clock.monotonic())
        if not self._pulses:
            self.idle.set()

    async def _finish(self, record: Record, tries: Tries) -> Outcome:
        # A replayed dead letter names the consumer that it is for.
        if record.headers.get(CONSUMER, self.name) != self.name:
            return Outcome.SKIPPED
        sender = self._sender(record)
        if not self._is_for(sender):
            return Outcome.SKIPPED
        claim = self._claim(record, sender)
        with self._span(record, claim) as span:
            try:
                return await self._settle(record, sender, claim, span, tries)
            except AlreadyApplied:
                await self._tell_healed(record, claim)
                return Outcome.DUPLICATE

    def _sender(self, record: Record) -> Sender | Fault:
        try:
            tenant, aggregate = split_key(record.key)
            scope = self.topic.write_scope
            subject = self._verify(record, tenant, scope) if scope else ""
            check_attributes(self.topic, record)
        except Fault as fault:
            return fault
        return Sender(tenant, aggregate, subject)

    def _is_for(self, sender: Sender | Fault) -> bool:
        """What nobody can be blamed for is everybody's dead letter."""
        if isinstance(sender, Fault) or not self.topic.takes_both:
            return True
        return self.submissions != (sender.subject == service_subject(self.topic.owner))

    def _verify(self, record: Record, tenant: str, scope: str) -> str:
        """The token's subject."""
        token = record.headers.get(TOKEN, "")
        caller = self.identity.verifier.verify(token, EVENT_AUDIENCE, at=record.time)
        caller.require(scope)
        if caller.tenant_id != tenant:
            raise Fault(Reason.TENANT_MISMATCH)
        return caller.subject

    def _claim(self, record: Record, sender: Sender | Fault) -> inbox.Claim:
        """An unverified sender may not choose an id: it could be that of another's event."""
        if isinstance(sender, Fault):
            return inbox.Claim(self.name, "", "", record.origin, record.replay)
        return inbox.Claim(
            self.name, sender.tenant_id, record.source, record.event_id, record.replay
        )

    @contextmanager
    def _span(self, record: Record, claim: inbox.Claim) -> Iterator[Span]:
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
            yield span

    async def _settle(
        self,
        record: Record,
        sender: Sender | Fault,
        claim: inbox.Claim,
        span: Span,
        tries: Tries,
    ) -> Outcome:
        """Tries until the event is applied or its dead letter is written."""
        message, given_up = self._message(record, sender)
        with ExitStack() as held:
            while True:
                self._beat(record)
                if given_up is None and message is not None and isinstance(sender, Sender):
                    failure = await self._try(message, record, sender, claim)
                else:
                    failure = await self._dead_letter(record, sender, claim, given_up, span)
                if failure is None:
                    return self._ended(given_up, span)
                tries.note(failure)
                await self._note_received(claim, failure, tries)
                now = self.clock.monotonic()
                if given_up is None and not self.policy.again(failure, tries, now, self.timeout):
                    given_up = failure.fault
                    continue
                if failure.kind is Kind.DEPENDENCY or given_up is not None:
                    held.enter_context(self._waits(record, failure.fault))
                await self._pause(failure, tries)

    def _message(self, record: Record, sender: Sender | Fault) -> tuple[M | None, Fault | None]:
        """The event, or why there is none."""
        if isinstance(sender, Fault):
            return None, sender
        try:
            fact = self.topic.takes_both and not self.submissions
            return decode(self.topic, record, fact=fact), None
        except Fault as unreadable:
            return None, unreadable

    async def _try(
        self, message: M, record: Record, sender: Sender, claim: inbox.Claim
    ) -> Failure | None:
        if self.look_first:
            try:
                done = await self.database.read(lambda session: inbox.find(session, claim))
            except Fault as storage:
                return failure_of(storage)
            if inbox.is_done(done, claim):
                raise AlreadyApplied
        return await attempt(self.handler, message, self._delivery(record, sender), self.timeout)

    def _delivery(self, record: Record, sender: Sender) -> Delivery:
        return Delivery(
            record=record,
            consumer=self.name,
            tenant_id=sender.tenant_id,
            aggregate_id=sender.aggregate_id,
            commits=self.commits,
            clock=self.clock,
            subject=sender.subject,
        )

    async def _note_received(self, claim: inbox.Claim, failure: Failure, tries: Tries) -> None:
        """Whoever submitted the event may ask the topic's owner why it is not done yet."""
        if not self.topic.is_submitted_to(self.service):
            return
        if tries.count > 1 or failure.kind is Kind.CONFLICT:
            return
        reason, at = failure.fault.reason.value, self.clock.now()
        with suppress(Fault):  # then it is told by what becomes of the event
            await self.database.write(
                lambda session: inbox.note_received(session, claim, reason, at)
            )

    async def _dead_letter(
        self,
        record: Record,
        sender: Sender | Fault,
        claim: inbox.Claim,
        fault: Fault | None,
        span: Span,
    ) -> Failure | None:
        """Inbox row and dead letter in one transaction, so it is never both or neither."""
        fault = fault or Fault(Reason.INTERNAL)
        subject = "" if isinstance(sender, Fault) else sender.subject
        values = dead_letter(record, self.name, fault, traceparent_of(span), subject)
        settling = Settling(claim, self.clock.now(), inbox.DEAD, fault.reason.value)
        try:
            await self.commits.apply(
                lambda unit: unit.outbox.append(values), self._plain_unit, settling
            )
        except AlreadyApplied:
            raise
        except Exception as error:
            if not isinstance(error, Fault):
                log.error("dead_letter_failed", consumer=self.name, exc_info=error)
            return failure_of(error)
        return None

    def _ended(self, given_up: Fault | None, span: Span) -> Outcome:
        if given_up is None:
            self.breaker.applied()
            return Outcome.APPLIED
        reason = given_up.reason.value
        span.set_status(Status(StatusCode.ERROR, reason))
        self.breaker.dead_lettered()
        log.error("event_dead_lettered", consumer=self.name, reason=reason)
        self.telemetry.count(catalogue.DEAD_LETTERS, consumer=self.name, reason=reason)
        return Outcome.DEAD_LETTERED

    async def _tell_healed(self, record: Record, claim: inbox.Claim) -> None:
        """Of a replay whose event was applied before: its dead letter may be older than the rows,
        which were then rebuilt without its death."""
        if not record.replay:
            return

        def tell(unit: UnitOfWork) -> None:
            done = inbox.find(unit.session, claim)
            if done is not None and done.outcome != inbox.DEAD:
                unit.outbox.append(healed_values(record, self.name))

        with suppress(Fault):  # the next replay tells it
            await self.commits.apply(tell, self._plain_unit)

    def _plain_unit(self, session: Session) -> UnitOfWork:
        return UnitOfWork(session, self.service, "", self.clock)

    @contextmanager
    def _waits(self, record: Record, fault: Fault) -> Iterator[None]:
        """The next record would only find the same, so none is begun meanwhile."""
        known = self.waiting.get(record.origin)
        since = known.since if known else self.clock.monotonic()
        dependency = fault.metadata.get("dependency", fault.reason.value.lower())
        self.waiting[record.origin] = Waiting(since, dependency)
        self.changed.set()
        try:
            yield
        finally:
            self.waiting.pop(record.origin, None)
            self.changed.set()

    async def _pause(self, failure: Failure, tries: Tries) -> None:
        """Wait before the next try; a service that stops hands the record back at once."""
        reason = failure.fault.reason.value
        if failure.kind is not Kind.CONFLICT:
            log.warning(
                "delivery_retried", consumer=self.name, reason=reason, tries=tries.count,
                kind=failure.kind.value,
            )  # fmt: skip
            self.telemetry.count(catalogue.DELIVERY_RETRIES, consumer=self.name, reason=reason)
        await self.rest(self.policy.pause(failure, tries))
        if self.stopping.is_set():
            raise HandedBack

    async def rest(self, seconds: float) -> None:
        """Sleep, or less when the service stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
