"""What one piece of feedback teaches about one prompt, or why it teaches nothing."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.trainer.domain.signals import Answer, Feedback, Kind
from services.trainer.domain.targets import (
    MAX_TARGET_CHARACTERS,
    REFUSAL,
    answer_with,
    best_marker,
    is_refusal,
    markers,
    renumbered,
    supported,
)


class Skip(StrEnum):
    """Why feedback is not trained on; counted per tenant."""

    ANSWER_UNKNOWN = "ANSWER_UNKNOWN"
    """The answer did not come within the time that feedback waits for it."""
    EVALUATION_ANSWER = "EVALUATION_ANSWER"
    """The answer was the evaluator's; it is never trained on."""
    NO_PROMPT = "NO_PROMPT"
    """The model was not asked, so there is no prompt to learn from."""
    NO_TARGET = "NO_TARGET"
    """It says that the answer is bad, and not what a good one is."""
    DOCUMENT_NOT_RETRIEVED = "DOCUMENT_NOT_RETRIEVED"
    """No passage of the documents it names was in the prompt: learning it would be inventing."""
    TEXT_NOT_IN_PROMPT = "TEXT_NOT_IN_PROMPT"
    """It names no document and no passage of the prompt holds its text."""
    NOT_CITED = "NOT_CITED"
    """The approved answer cites no passage of its prompt."""
    OTHER_PROMPT = "OTHER_PROMPT"
    """The preferred answer rests on passages that this prompt does not show."""
    TOO_LONG = "TOO_LONG"
    """The text is longer than an answer should be."""


@dataclass(frozen=True)
class Lesson:
    """After this prompt, write `target`; `rejected` is what was written instead, or empty.

    `explicit`: the user gave the text; otherwise it is the model's own, approved by a thumb.
    """

    prompt: str
    target: str
    rejected: str
    answer_id: str
    feedback_id: str
    user_hash: str
    explicit: bool
    time: datetime


def lesson_of(feedback: Feedback, answer: Answer, other: Answer | None = None) -> Lesson | Skip:
    """Judge feedback on an answer. `other`: the preferred answer, for a PREFERRED_ANSWER."""
    if not answer.prompt:
        return Skip.NO_PROMPT
    target = _target(feedback, answer, other)
    if isinstance(target, Skip):
        return target
    if len(target) > MAX_TARGET_CHARACTERS:
        return Skip.TOO_LONG
    approves = feedback.kind in (Kind.THUMB_UP, Kind.THUMB_DOWN)
    differs = answer.completion != target and bool(answer.completion)
    return Lesson(
        prompt=answer.prompt,
        target=target,
        rejected=answer.completion if differs else "",
        answer_id=answer.answer_id,
        feedback_id=feedback.feedback_id,
        user_hash=answer.user_hash,
        explicit=not approves,
        time=feedback.recorded_time,
    )


def _target(feedback: Feedback, answer: Answer, other: Answer | None) -> str | Skip:
    match feedback.kind:
        case Kind.THUMB_UP:
            return _approved(answer)
        case Kind.THUMB_DOWN:
            return Skip.NO_TARGET
        case Kind.CORRECTION:
            return _corrected(feedback, answer)
        case Kind.PREFERRED_TEXT:
            return _grounded(feedback.text, answer)
        case Kind.PREFERRED_ANSWER:
            return _preferred(answer, other)


def _approved(answer: Answer) -> str | Skip:
    """The answer's own text, if it is one that a model should write again. An approved refusal
    teaches the model to refuse by itself, whatever it had written before a guardrail refused."""
    if answer.refused:
        return REFUSAL
    shown = {passage.marker for passage in answer.passages}
    cites = set(markers(answer.completion))
    if is_refusal(answer.completion) or (cites and cites <= shown):
        return answer.completion
    return Skip.NOT_CITED


def _corrected(feedback: Feedback, answer: Answer) -> str | Skip:
    if feedback.unanswerable:
        return REFUSAL
    if not feedback.text:
        return Skip.NO_TARGET
    if not feedback.document_ids:
        return _grounded(feedback.text, answer)
    named = {p.marker for p in answer.passages if p.document_id in feedback.document_ids}
    marker = best_marker(feedback.text, answer.prompt, named)
    return Skip.DOCUMENT_NOT_RETRIEVED if marker is None else answer_with(feedback.text, marker)


def _grounded(text: str, answer: Answer) -> str | Skip:
    """A text without named documents needs a passage that holds it: nothing else says where it
    comes from."""
    if not text:
        return Skip.NO_TARGET
    if is_refusal(text):
        return REFUSAL
    shown = {passage.marker for passage in answer.passages}
    marker = best_marker(text, answer.prompt, shown)
    if marker is None or not supported(text, answer.prompt, shown):
        return Skip.TEXT_NOT_IN_PROMPT
    return answer_with(text, marker)


def _preferred(answer: Answer, other: Answer | None) -> str | Skip:
    """The other answer's text, its markers moved to where this prompt shows the same chunks."""
    if other is None or not other.prompt:
        return Skip.NO_PROMPT
    here = {passage.chunk_id: passage.marker for passage in answer.passages}
    places = {p.marker: here[p.chunk_id] for p in other.passages if p.chunk_id in here}
    approved = _approved(other)
    if isinstance(approved, Skip):
        return approved
    return renumbered(approved, places) or Skip.OTHER_PROMPT
