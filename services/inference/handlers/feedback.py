"""Put a user's feedback on the log, once, and only on an answer that exists: the same rules for a
call and for an event of a product service."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from opentelemetry import trace
from opentelemetry.trace import Link, Tracer

from services.inference.adapters.store import AnswerRow, FeedbackRow, find_answer
from services.inference.domain.feedback import Given, Said, check, content_of, feedback_event
from tidemill import topics
from tidemill.api.events.v1 import FeedbackRecorded
from tidemill.api.inference.v1 import RecordFeedbackRequest
from tidemill.bus import Bus, Delivery, UnitOfWork
from tidemill.bus.envelope import SUBJECT
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id, is_derived, new_id
from tidemill.security.tokens import Caller
from tidemill.telemetry.tracing import context_of

PREFIX = "fb_"
REJECTIONS = (Reason.INVALID_ARGUMENT, Reason.ANSWER_NOT_FOUND, Reason.REQUEST_ID_REUSED)
"""Faults of a submission that are its sender's to mend."""


@dataclass(frozen=True)
class FeedbackTaking:
    """What taking feedback stands on."""

    database: Database
    bus: Bus
    clock: Clock
    tracer: Tracer


@dataclass(frozen=True)
class Recording:
    """Feedback that was checked. subject: of the token that it came with. traceparent: of its
    answer, whose trace it joins."""

    event: FeedbackRecorded
    subject: str
    traceparent: str


async def record_feedback(
    parts: FeedbackTaking, caller: Caller, request: RecordFeedbackRequest
) -> str:
    """Publishes FeedbackRecorded; returns its id. The same request id gives the same id.

    Faults: INVALID_ARGUMENT, ANSWER_NOT_FOUND, REQUEST_ID_REUSED (with another content).
    """
    tenant, request_id = caller.tenant_id, request.request_id
    feedback_id = requested_id(tenant, request_id) if request_id else new_id("fb")
    given = Given(request, parts.clock.now())
    traceparent = await check_answers(parts.database, tenant, request)
    recording = Recording(feedback_event(given, feedback_id), caller.subject, traceparent)
    with joined(parts.tracer, recording):
        await publish_once(parts.bus, tenant, recording)
    return feedback_id


@outlasting_rivals
async def publish_once(bus: Bus, tenant_id: str, recording: Recording) -> None:
    await bus.write(tenant_id, partial(publish_new, recording=recording))


async def take_submission(parts: FeedbackTaking, given: Given, delivery: Delivery) -> None:
    """Publishes FeedbackRecorded as record_feedback does; what that would refuse is rejected, and
    whoever submitted it may ask why."""
    tenant, request_id = delivery.tenant_id, given.said.request_id
    feedback_id = requested_id(tenant, request_id) if request_id else submitted_id(delivery)
    await take(parts, given, delivery, feedback_id)


async def take(parts: FeedbackTaking, given: Given, delivery: Delivery, feedback_id: str) -> None:
    try:
        traceparent = await check_answers(parts.database, delivery.tenant_id, given.said)
        event = feedback_event(given, feedback_id)
        recording = Recording(event, delivery.subject, traceparent)
        with joined(parts.tracer, recording):
            await delivery.apply(partial(publish_new, recording=recording))
    except Fault as fault:
        if fault.reason not in REJECTIONS:
            raise
        await delivery.apply(partial(reject, reason=fault.reason.value))


def reject(unit: UnitOfWork, reason: str) -> None:
    unit.rejected = reason


async def check_answers(database: Database, tenant_id: str, said: Said) -> str:
    """The traceparent of the answer; Fault for what is out of range, or on an answer that the
    tenant was not given."""
    check(said)
    judged = await existing_answer(database, tenant_id, said.answer_id)
    if said.WhichOneof("signal") == "preferred_answer_id":
        preferred = await existing_answer(database, tenant_id, said.preferred_answer_id)
        check_same_question(judged, preferred)
    return judged.traceparent


@contextmanager
def joined(tracer: Tracer, recording: Recording) -> Iterator[None]:
    """The event joins the trace of its answer, whether or not that trace was sent along."""
    with tracer.start_as_current_span(
        "record_feedback",
        context=context_of(recording.traceparent),
        links=[Link(trace.get_current_span().get_span_context())],
    ):
        yield


def publish_new(unit: UnitOfWork, recording: Recording) -> None:
    """Queues the event unless it was queued before under its id."""
    event = recording.event
    if not is_remembered(event.feedback_id) or is_new(unit, event):
        headers = {SUBJECT: recording.subject}
        unit.publish(topics.FEEDBACK_RECORDED, event.answer_id, event, headers=headers)


async def existing_answer(database: Database, tenant_id: str, answer_id: str) -> AnswerRow:
    """The tenant's answer; Fault(ANSWER_NOT_FOUND)."""
    row = await find_answer(database, tenant_id, answer_id)
    if row is None:
        raise Fault(Reason.ANSWER_NOT_FOUND)
    return row


def check_same_question(judged: AnswerRow, preferred: AnswerRow) -> None:
    if judged.question.casefold() != preferred.question.casefold():
        raise Fault(Reason.INVALID_ARGUMENT, field="preferred_answer_id", problem="OTHER_QUESTION")


def requested_id(tenant_id: str, request_id: str) -> str:
    return f"{PREFIX}{derived_id(tenant_id, 'feedback', request_id)}"


def submitted_id(delivery: Delivery) -> str:
    """Of a submission without a request id: it is its event's, however often that comes."""
    event = (delivery.record.source, delivery.event_id)
    return f"{PREFIX}{derived_id(delivery.tenant_id, 'feedback event', *event)}"


def is_remembered(feedback_id: str) -> bool:
    """False for the id of a call without a request id, which was chosen by chance."""
    return not feedback_id.startswith(PREFIX) or is_derived(feedback_id.removeprefix(PREFIX))


def is_new(unit: UnitOfWork, event: FeedbackRecorded) -> bool:
    """False for a retry; keeps the feedback otherwise. Fault(REQUEST_ID_REUSED)."""
    known = unit.session.get(FeedbackRow, (unit.tenant_id, event.feedback_id))
    if known is None:
        unit.session.add(feedback_row(unit.tenant_id, event))
    elif known.content_hash != content_hash(event):
        raise Fault(Reason.REQUEST_ID_REUSED)
    return known is None


def feedback_row(tenant_id: str, event: FeedbackRecorded) -> FeedbackRow:
    return FeedbackRow(
        tenant_id=tenant_id, feedback_id=event.feedback_id, content_hash=content_hash(event)
    )


def content_hash(event: FeedbackRecorded) -> str:
    return hashlib.sha256(content_of(event)).hexdigest()
