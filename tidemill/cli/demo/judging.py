"""The demo's users: how they judge the answers that they got."""

import random
from collections.abc import Sequence

from tidemill.api.events.v1 import FeedbackSubmitted
from tidemill.cli.demo.asking import Asked

PREFERENCE_EVERY = 8
"""One user in so many names a better answer instead of correcting."""


def honest_feedback(asked: Sequence[Asked]) -> list[FeedbackSubmitted]:
    """A thumb up for an answer that says exactly what is right, else what it should have said."""
    return [judge(item, number) for number, item in enumerate(asked)]


def judge(item: Asked, number: int) -> FeedbackSubmitted:
    if is_right(item):
        return FeedbackSubmitted(answer_id=item.answer.answer_id, thumb_up=True)
    if number % PREFERENCE_EVERY == 0 and item.question.answer:
        better = item.question.answer
        return FeedbackSubmitted(answer_id=item.answer.answer_id, preferred_text=better)
    return correction_of(item)


def is_right(item: Asked) -> bool:
    if not item.question.answer:
        return item.refused
    said = item.text.split("[")[0].strip(" .").casefold()
    cited = {c.document_id for c in item.answer.completed.citations}
    return said == item.question.answer.casefold() and item.question.document_id in cited


def correction_of(item: Asked) -> FeedbackSubmitted:
    question, answer_id = item.question, item.answer.answer_id
    if not question.answer:
        return FeedbackSubmitted(answer_id=answer_id, unanswerable=True)
    documents = [question.document_id]
    return FeedbackSubmitted(
        answer_id=answer_id, correction=question.answer, document_ids=documents
    )


def scrambled_feedback(asked: Sequence[Asked], seed: int) -> list[FeedbackSubmitted]:
    """Each answer gets the correction of another question, and refusals change sides.

    The document stays the right one, so that the trainer finds it among the retrieved chunks:
    only the gate can see that what was taught is wrong.
    """
    answers = [item.question.answer for item in asked if item.question.answer]
    offset = random.Random(seed).randrange(1, len(answers))
    events = []
    for number, item in enumerate(asked):
        text = other_answer(answers, number + offset, item.question.answer)
        documents = [item.question.document_id] if item.question.answer else cited(item)
        said = FeedbackSubmitted(
            answer_id=item.answer.answer_id, correction=text, document_ids=documents
        )
        events.append(said)
    return events


def other_answer(answers: Sequence[str], start: int, right: str) -> str:
    """The first answer from start on, around the end, that is not the right one."""
    turned = (answers[(start + step) % len(answers)] for step in range(len(answers)))
    return next(text for text in turned if text != right)


def cited(item: Asked) -> list[str]:
    return [citation.document_id for citation in item.answer.completed.citations]
