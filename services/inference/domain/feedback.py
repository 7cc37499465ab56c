"""What users may say about an answer, and the event that it becomes: one set of rules, whichever
way it comes."""

from dataclasses import dataclass
from datetime import datetime

from tidemill.api.events.v1 import (
    Correction,
    FeedbackRecorded,
    FeedbackSubmitted,
    Preference,
    Thumb,
)
from tidemill.api.inference.v1 import RecordFeedbackRequest
from tidemill.faults import Fault, Reason
from tidemill.ids import MAX_ID, fits
from tidemill.security.personal_data import mask

MAX_TEXT_CHARS = 2_000
MAX_DOCUMENTS = 20

Said = RecordFeedbackRequest | FeedbackSubmitted
"""The same fields, over gRPC or Kafka."""


@dataclass(frozen=True)
class Given:
    """Feedback as it came. time: by the broker's clock or ours, never by the sender's."""

    said: Said
    time: datetime


def check(said: Said) -> None:
    """Fault(INVALID_ARGUMENT) that names the first field out of range."""
    signal = said.WhichOneof("signal")
    preferred = said.preferred_answer_id
    problems = {
        "answer_id": not fits(said.answer_id),
        "request_id": len(said.request_id) > MAX_ID,
        "document_ids": len(said.document_ids) > MAX_DOCUMENTS
        or not all(map(fits, said.document_ids)),
        "signal": signal is None,
        "correction": signal == "correction" and not is_text(said.correction),
        "unanswerable": signal == "unanswerable" and not said.unanswerable,
        "preferred_answer_id": signal == "preferred_answer_id"
        and (not fits(preferred) or preferred == said.answer_id),
        "preferred_text": signal == "preferred_text" and not is_text(said.preferred_text),
    }
    for field, wrong in problems.items():
        if wrong:
            raise Fault(Reason.INVALID_ARGUMENT, field=field)


def is_text(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_TEXT_CHARS


def feedback_event(given: Given, feedback_id: str) -> FeedbackRecorded:
    """The event, with personal data in the user's words masked."""
    said = given.said
    event = FeedbackRecorded(feedback_id=feedback_id, answer_id=said.answer_id)
    event.recorded_time.FromDatetime(given.time)
    match said.WhichOneof("signal"):
        case "thumb_up":
            event.thumb.CopyFrom(Thumb(up=said.thumb_up))
        case "correction":
            text = masked(said.correction)
            event.correction.CopyFrom(Correction(text=text, document_ids=said.document_ids))
        case "unanswerable":
            event.correction.CopyFrom(Correction(unanswerable=True))
        case "preferred_answer_id":
            preferred = said.preferred_answer_id
            event.preference.CopyFrom(Preference(preferred_answer_id=preferred))
        case "preferred_text":
            text = masked(said.preferred_text)
            event.preference.CopyFrom(Preference(preferred_text=text))
    return event


def masked(text: str) -> str:
    return mask(text.strip()).text


def content_of(event: FeedbackRecorded) -> bytes:
    """Of what the user said, whenever it was said."""
    said = FeedbackRecorded()
    said.CopyFrom(event)
    said.ClearField("recorded_time")
    return said.SerializeToString(deterministic=True)


def submission_of(event: FeedbackRecorded) -> FeedbackSubmitted:
    """What an outsider wrote to the topic of the facts, as the submission that it is."""
    said = FeedbackSubmitted(answer_id=event.answer_id)
    match event.WhichOneof("signal"):
        case "thumb":
            said.thumb_up = event.thumb.up
        case "correction":
            said.document_ids.extend(event.correction.document_ids)
            if event.correction.unanswerable and not event.correction.text:
                said.unanswerable = True
            else:
                said.correction = event.correction.text
        case "preference" if event.preference.preferred_answer_id:
            said.preferred_answer_id = event.preference.preferred_answer_id
        case "preference":
            said.preferred_text = event.preference.preferred_text
    return said
