"""Takes one record at a time to its handler: applied, parked as a dead letter, or held."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic

import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from tidemill.bus import inbox
from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.envelope import (
    CONSUMER,
    TOKEN,
    TRACEPARENT,
    Record,
    decode,
    split_key,
)
from tidemill.bus.policy import FloodBrake, RetryPolicy
from tidemill.bus.tables import OutboxRow
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.telemetry import Telemetry
from tidemill.telemetry.tracing import context_of, traceparent_of
from tidemill.topics import M, Topic

log = structlog.get_logger()

Handler = Callable[[M, Delivery], Awaitable[None]]


class Held(Exception):
    """The delivery could not be finished; the record must be delivered again."""


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
    finished: int = 0
    last_finished: float = 0.0
    busy_since: float | None = None

    @property
    def name(self) -> str:
        return f"{self.service}/{self.topic.name}"

    async def take(self, record: Record) -> None:
        """Finish the record or raise Held. Returns only when its outcome is in the database."""
        self.busy_since = self.clock.monotonic()
        try:
            if not self._is_for_us(record) or await self._is_done(record):
                return
            await self._traced(record)
        finally:
            self.busy_since = None
            self.finished += 1
            self.last_finished = self.clock.monotonic()

    def _is_for_us(self, record: Record) -> bool:
        """A replayed dead letter names the consumer that it is for."""
        return record.headers.get(CONSUMER, self.name) == self.name

    async def _is_done(self, record: Record) -> bool:
        try:
            async with self.database.session() as session:
                return await inbox.is_done(session, self.name, record.event_id, record.replay)
        except Fault as fault:
            raise Held from fault

    async def _traced(self, record: Record) -> None:
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
                "messaging.message.id": record.event_id,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            fault = await self._try(record)
            if fault is None:
                self.brake.applied()
            else:
                span.set_status(Status(StatusCode.ERROR, fault.reason.value))
                await self._park(record, fault, traceparent_of(span))
                self.brake.parked()
        self.wake_relay()

    async def _try(self, record: Record) -> Fault | None:
        """None when applied, else the fault to park it with."""
        try:
            delivery, message = self._open(record)
        except Fault as unreadable:
            return unreadable
        started, attempt = self.clock.monotonic(), 0
        while True:
            attempt += 1
            fault = await self._attempt(message, delivery)
            if fault is None or not self._again(fault, attempt, started):
                return fault
            log.warning(
                "delivery_retried", consumer=self.name, reason=fault.reason.value, attempt=attempt
            )
            await asyncio.sleep(self.policy.delay(attempt))

    def _again(self, fault: Fault, attempt: int, started: float) -> bool:
        if fault.retryable:
            return self.clock.monotonic() - started < self.policy.hold_seconds
        return fault.reason is Reason.INTERNAL and attempt < self.policy.attempts

    def _open(self, record: Record) -> tuple[Delivery, M]:
        tenant, aggregate = split_key(record.key)
        if self.topic.write_scope:
            caller = self.identity.verifier.verify(
                record.headers.get(TOKEN, ""), EVENT_AUDIENCE, at=record.time
            )
            caller.require(self.topic.write_scope)
            if caller.tenant_id != tenant:
                raise Fault(Reason.TENANT_MISMATCH)
        message = decode(self.topic, record)
        return self._delivery(record, tenant, aggregate), message

    def _delivery(self, record: Record, tenant: str, aggregate: str) -> Delivery:
        return Delivery(
            record=record,
            consumer=self.name,
            tenant_id=tenant,
            aggregate_id=aggregate,
            database=self.database,
            identity=self.identity,
            clock=self.clock,
        )

    async def _attempt(self, message: M, delivery: Delivery) -> Fault | None:
        try:
            async with asyncio.timeout(self.timeout):
                await self.handler(message, delivery)
                if not delivery.applied:
                    async with delivery.apply():
                        pass
        except AlreadyApplied:
            return None
        except Fault as fault:
            return fault
        except TimeoutError:
            return Fault(Reason.DEADLINE_EXCEEDED)
        except Exception as error:
            log.exception("handler_failed", consumer=self.name, error_type=type(error).__name__)
            return Fault(Reason.INTERNAL, error_type=type(error).__name__)
        return None

    async def _park(self, record: Record, fault: Fault, traceparent: str) -> None:
        """Inbox row "dead" and dead letter in one transaction, so it is never both or neither."""
        row = dead_letter(record, self.name, fault, traceparent)
        try:
            async with self.database.transaction() as session:
                session.add(row)
                await inbox.mark(
                    session, self.name, record.event_id, inbox.DEAD, record.replay, self.clock.now()
                )
        except Fault as storage:
            raise Held from storage
        log.error("event_parked", consumer=self.name, reason=fault.reason.value)


def dead_letter(record: Record, consumer: str, fault: Fault, traceparent: str) -> OutboxRow:
    """The record as it was, with why, for whom and from where."""
    headers = dict(record.headers) | {
        "tidemill-dead-letter-id": derived_id(consumer, record.event_id, record.origin),
        "tidemill-reason": fault.reason.value,
        "tidemill-origin": record.origin,
        "tidemill-origin-time": record.time.isoformat(),
        CONSUMER: consumer,
    }
    if traceparent:
        headers[TRACEPARENT] = traceparent
    return OutboxRow(
        topic=f"{record.topic}.dlq",
        key=record.key,
        value=record.value,
        headers=json.dumps(headers),
    )
