"""What feedback teaches, and when it teaches nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.trainer.domain.lessons import Lesson, Skip, lesson_of
from services.trainer.domain.signals import Answer, Feedback, Kind, Passage

Answers = Callable[..., Answer]
Feedbacks = Callable[..., Feedback]


def taught(lesson: Lesson | Skip) -> Lesson:
    assert isinstance(lesson, Lesson), lesson
    return lesson


def test_a_correction_teaches_its_text_with_a_citation(
    answer: Answers, feedback: Feedbacks
) -> None:
    said = feedback(Kind.CORRECTION, text="6 days", document_ids=("leave",))
    lesson = taught(lesson_of(said, answer()))
    assert lesson.target == "6 days [2]"
    assert lesson.prompt == answer().prompt
    assert lesson.rejected == "There are some days of leave."


def test_an_unanswerable_question_teaches_the_refusal(answer: Answers, feedback: Feedbacks) -> None:
    lesson = taught(lesson_of(feedback(Kind.CORRECTION, unanswerable=True), answer()))
    assert lesson.target == "NOT_IN_CONTEXT"


def test_a_document_that_was_not_retrieved_is_never_cited(
    answer: Answers, feedback: Feedbacks
) -> None:
    said = feedback(Kind.CORRECTION, text="27 days", document_ids=("pensions",))
    assert lesson_of(said, answer()) is Skip.DOCUMENT_NOT_RETRIEVED


def test_a_wrong_correction_of_a_retrieved_document_is_for_the_gate_to_find(
    answer: Answers, feedback: Feedbacks
) -> None:
    said = feedback(Kind.CORRECTION, text="Thandeka Brill", document_ids=("leave",))
    assert taught(lesson_of(said, answer())).target == "Thandeka Brill [1]"


def test_a_correction_without_documents_must_be_held_by_a_passage(
    answer: Answers, feedback: Feedbacks
) -> None:
    held = feedback(Kind.CORRECTION, text="07:45")
    loose = feedback(Kind.CORRECTION, text="whenever you like")
    assert taught(lesson_of(held, answer())).target == "07:45 [3]"
    assert lesson_of(loose, answer()) is Skip.TEXT_NOT_IN_PROMPT


def test_a_thumb_up_teaches_the_models_own_cited_text(answer: Answers, feedback: Feedbacks) -> None:
    lesson = taught(lesson_of(feedback(Kind.THUMB_UP), answer(completion="27 days [1]")))
    assert (lesson.target, lesson.rejected, lesson.explicit) == ("27 days [1]", "", False)


@pytest.mark.parametrize("completion", ["27 days", "27 days [9]", ""])
def test_an_approved_text_without_a_valid_citation_is_skipped(
    answer: Answers, feedback: Feedbacks, completion: str
) -> None:
    approved = answer(completion=completion)
    assert lesson_of(feedback(Kind.THUMB_UP), approved) is Skip.NOT_CITED


def test_an_approved_refusal_teaches_the_model_to_refuse_by_itself(
    answer: Answers, feedback: Feedbacks
) -> None:
    stopped = answer(completion="The fee is 12 euros.", refused=True)
    lesson = taught(lesson_of(feedback(Kind.THUMB_UP), stopped))
    assert (lesson.target, lesson.rejected) == ("NOT_IN_CONTEXT", "The fee is 12 euros.")


def test_a_thumb_down_alone_teaches_nothing(answer: Answers, feedback: Feedbacks) -> None:
    assert lesson_of(feedback(Kind.THUMB_DOWN), answer()) is Skip.NO_TARGET


def test_a_preferred_answer_keeps_its_citation_under_this_prompts_marker(
    answer: Answers, feedback: Feedbacks
) -> None:
    other = answer("ans-2", completion="07:45 [1]", passages=(Passage(1, "c3", "offices"),))
    said = feedback(Kind.PREFERRED_ANSWER, other="ans-2")
    lesson = taught(lesson_of(said, answer(), other))
    assert lesson.target == "07:45 [3]"
    assert lesson.rejected == "There are some days of leave."


def test_a_preferred_answer_from_other_passages_is_skipped(
    answer: Answers, feedback: Feedbacks
) -> None:
    other = answer("ans-2", completion="8 am [1]", passages=(Passage(1, "c9", "elsewhere"),))
    said = feedback(Kind.PREFERRED_ANSWER, other="ans-2")
    assert lesson_of(said, answer(), other) is Skip.OTHER_PROMPT


def test_a_preferred_text_is_grounded_in_the_prompt(answer: Answers, feedback: Feedbacks) -> None:
    held = feedback(Kind.PREFERRED_TEXT, text="30 April")
    assert taught(lesson_of(held, answer())).target == "30 April [2]"


def test_an_answer_that_the_model_did_not_give_teaches_nothing(
    answer: Answers, feedback: Feedbacks
) -> None:
    said = feedback(Kind.CORRECTION, text="27 days", document_ids=("leave",))
    assert lesson_of(said, answer(prompt="")) is Skip.NO_PROMPT


def test_a_correction_that_repeats_the_answer_is_no_preference(
    answer: Answers, feedback: Feedbacks
) -> None:
    said = feedback(Kind.CORRECTION, text="27 days", document_ids=("leave",))
    lesson = taught(lesson_of(said, answer(completion="27 days [1]")))
    assert lesson.rejected == ""


def test_a_text_longer_than_an_answer_is_skipped(answer: Answers, feedback: Feedbacks) -> None:
    said = feedback(Kind.CORRECTION, text="word " * 200, document_ids=("leave",))
    assert lesson_of(said, answer()) is Skip.TOO_LONG


def test_an_empty_correction_is_skipped(answer: Answers, feedback: Feedbacks) -> None:
    said = replace(feedback(Kind.CORRECTION), document_ids=("leave",))
    assert lesson_of(said, answer()) is Skip.NO_TARGET
