"""Answers and feedback as the trainer keeps them, read from their events."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tidemill.api.events.v1 import AnswerGenerated, FeedbackRecorded
from tidemill.timestamps import time_by


class Kind(StrEnum):
    """What a user said about an answer."""

    THUMB_UP = "thumb_up"
    THUMB_DOWN = "thumb_down"
    CORRECTION = "correction"
    PREFERRED_TEXT = "preferred_text"
    PREFERRED_ANSWER = "preferred_answer"


@dataclass(frozen=True)
class Passage:
    """A chunk that the prompt showed under a marker."""

    marker: int
    chunk_id: str
    document_id: str


@dataclass(frozen=True)
class Answer:
    """The part of an answer that training needs; `completion` is the model's own text, and
    `refused` tells that the user saw a refusal instead, the model's or a guardrail's."""

    answer_id: str
    user_hash: str
    prompt: str
    completion: str
    passages: tuple[Passage, ...]
    refused: bool


@dataclass(frozen=True)
class Feedback:
    """One signal. `text`: a correction or a preferred text; `other`: id of a preferred answer."""

    feedback_id: str
    answer_id: str
    kind: Kind
    recorded_time: datetime
    text: str = ""
    unanswerable: bool = False
    document_ids: tuple[str, ...] = ()
    other: str = ""


def answer_of(event: AnswerGenerated) -> Answer:
    shown = (Passage(c.marker, c.chunk_id, c.document_id) for c in event.chunks)
    return Answer(
        answer_id=event.answer_id,
        user_hash=event.user_hash,
        prompt=event.prompt,
        completion=event.completion.strip(),
        passages=tuple(shown),
        refused=event.refused,
    )


def feedback_of(event: FeedbackRecorded, received: datetime) -> Feedback | None:
    """The signal of an event, or None when it carries none. A missing time is the time received."""
    shared = (event.feedback_id, event.answer_id)
    time = time_by(event, "recorded_time", received)
    match event.WhichOneof("signal"):
        case "thumb":
            return Feedback(*shared, Kind.THUMB_UP if event.thumb.up else Kind.THUMB_DOWN, time)
        case "correction":
            said = event.correction
            documents = tuple(said.document_ids)
            return Feedback(
                *shared, Kind.CORRECTION, time, said.text.strip(), said.unanswerable, documents
            )
        case "preference":
            return _preference(event, time)
    return None


def _preference(event: FeedbackRecorded, time: datetime) -> Feedback:
    said = event.preference
    kind = Kind.PREFERRED_ANSWER if said.preferred_answer_id else Kind.PREFERRED_TEXT
    return Feedback(
        event.feedback_id,
        event.answer_id,
        kind,
        time,
        text=said.preferred_text.strip(),
        other=said.preferred_answer_id,
    )
