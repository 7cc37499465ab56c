"""Put a user's feedback on the log, once, and only on an answer that exists."""

import hashlib
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry import trace
from opentelemetry.trace import Link, Tracer

from services.inference.adapters.store import AnswerRow, FeedbackRow, find_answer
from tidemill import topics
from tidemill.api.events.v1 import Correction, FeedbackRecorded, Preference, Thumb
from tidemill.api.inference.v1 import RecordFeedbackRequest
from tidemill.bus import Bus, UnitOfWork
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id, new_id
from tidemill.security.personal_data import mask
from tidemill.telemetry.tracing import context_of

MAX_CORRECTION_CHARS = 2_000
MAX_DOCUMENTS = 20
MAX_ID_CHARS = 200


@dataclass(frozen=True)
class FeedbackTaking:
    """What taking feedback stands on."""

    database: Database
    bus: Bus
    clock: Clock
    tracer: Tracer


async def record_feedback(
    parts: FeedbackTaking, tenant_id: str, request: RecordFeedbackRequest
) -> str:
    """Publishes FeedbackRecorded; returns its id. The same request id gives the same id.

    Faults: INVALID_ARGUMENT, ANSWER_NOT_FOUND, REQUEST_ID_REUSED (with another content).
    """
    check(request)
    judged = await existing_answer(parts.database, tenant_id, request.answer_id)
    if request.WhichOneof("signal") == "preferred_answer_id":
        preferred = await existing_answer(parts.database, tenant_id, request.preferred_answer_id)
        check_same_question(judged, preferred)
    feedback_id = feedback_id_of(tenant_id, request.request_id)
    # The event joins the trace of its answer, whether or not the caller sent that trace along.
    span = parts.tracer.start_as_current_span(
        "record_feedback",
        context=context_of(judged.traceparent),
        links=[Link(trace.get_current_span().get_span_context())],
    )
    with span:
        await publish_once(parts, tenant_id, request, feedback_id)
    return feedback_id


@outlasting_rivals
async def publish_once(
    parts: FeedbackTaking, tenant_id: str, request: RecordFeedbackRequest, feedback_id: str
) -> None:
    """Queues the event unless an earlier call with the request id did."""
    event = feedback_event(request, feedback_id, parts.clock)

    def publish(unit: UnitOfWork) -> None:
        if not request.request_id or is_new(unit, event):
            unit.publish(topics.FEEDBACK_RECORDED, request.answer_id, event)

    await parts.bus.write(tenant_id, publish)


async def existing_answer(database: Database, tenant_id: str, answer_id: str) -> AnswerRow:
    """The tenant's answer; Fault(ANSWER_NOT_FOUND)."""
    row = await find_answer(database, tenant_id, answer_id)
    if row is None:
        raise Fault(Reason.ANSWER_NOT_FOUND)
    return row


def check(request: RecordFeedbackRequest) -> None:
    """Fault(INVALID_ARGUMENT) that names the first field out of range."""
    signal = request.WhichOneof("signal")
    correction = request.correction
    problems = {
        "answer_id": not 0 < len(request.answer_id) <= MAX_ID_CHARS,
        "request_id": len(request.request_id) > MAX_ID_CHARS,
        "document_ids": len(request.document_ids) > MAX_DOCUMENTS
        or any(not 0 < len(document) <= MAX_ID_CHARS for document in request.document_ids),
        "signal": signal is None,
        "correction": signal == "correction"
        and (not correction.strip() or len(correction) > MAX_CORRECTION_CHARS),
        "unanswerable": signal == "unanswerable" and not request.unanswerable,
        "preferred_answer_id": signal == "preferred_answer_id"
        and request.preferred_answer_id in ("", request.answer_id),
    }
    for field, wrong in problems.items():
        if wrong:
            raise Fault(Reason.INVALID_ARGUMENT, field=field)


def check_same_question(judged: AnswerRow, preferred: AnswerRow) -> None:
    if judged.question.casefold() != preferred.question.casefold():
        raise Fault(Reason.INVALID_ARGUMENT, field="preferred_answer_id", problem="OTHER_QUESTION")


def feedback_id_of(tenant_id: str, request_id: str) -> str:
    return f"fb_{derived_id(tenant_id, 'feedback', request_id)}" if request_id else new_id("fb")


def is_new(unit: UnitOfWork, event: FeedbackRecorded) -> bool:
    """False for a retry; keeps the feedback otherwise. Fault(REQUEST_ID_REUSED)."""
    content = content_hash(event)
    known = unit.session.get(FeedbackRow, (unit.tenant_id, event.feedback_id))
    if known is None:
        unit.session.add(feedback_row(unit.tenant_id, event))
    elif known.content_hash != content:
        raise Fault(Reason.REQUEST_ID_REUSED)
    return known is None


def feedback_row(tenant_id: str, event: FeedbackRecorded) -> FeedbackRow:
    return FeedbackRow(
        tenant_id=tenant_id, feedback_id=event.feedback_id, content_hash=content_hash(event)
    )


def content_hash(event: FeedbackRecorded) -> str:
    """Of what the user said, whenever it was said."""
    said = FeedbackRecorded()
    said.CopyFrom(event)
    said.ClearField("recorded_time")
    return hashlib.sha256(said.SerializeToString(deterministic=True)).hexdigest()


def feedback_event(
    request: RecordFeedbackRequest, feedback_id: str, clock: Clock
) -> FeedbackRecorded:
    """The event, with personal data in the user's words masked."""
    now = Timestamp()
    now.FromDatetime(clock.now())
    event = FeedbackRecorded(
        feedback_id=feedback_id, answer_id=request.answer_id, recorded_time=now
    )
    match request.WhichOneof("signal"):
        case "thumb_up":
            event.thumb.CopyFrom(Thumb(up=request.thumb_up))
        case "correction":
            text = mask(request.correction.strip()).text
            event.correction.CopyFrom(Correction(text=text, document_ids=request.document_ids))
        case "unanswerable":
            event.correction.CopyFrom(Correction(unanswerable=True))
        case "preferred_answer_id":
            preferred = request.preferred_answer_id
            event.preference.CopyFrom(Preference(preferred_answer_id=preferred))
    return event
