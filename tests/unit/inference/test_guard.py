"""What leaves is decided by the model's text alone, not by how it was cut into deltas."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.domain.guard import AnswerGuard, GuardedAnswer, Verdict
from services.inference.domain.prompts import Passage
from services.inference.domain.refusals import TEXTS, Refusal
from services.inference.domain.sentences import HARD_LIMIT_CHARS, HOLD_CHARS, LOOKAHEAD_CHARS
from tidemill.security.personal_data import mask

PASSAGES = [
    Passage(1, "Annual leave", ("Entitlement",), "Every employee gets 27 days of leave."),
    Passage(2, "Contact", (), "The people team answers within 4 working days in Driftwood."),
    Passage(3, "Yard", (), "The yard in Veldmouth opens at 06:30."),
]
QUESTION = "How many days of leave does an employee get?"

ANSWERS = [
    "27 days [1]",
    "27 days [1][7].",
    "NOT_IN_CONTEXT",
    "I don't know. The passages say 27 days.",
    "Every employee gets 27 days [1].\n\nThe team answers in Driftwood [2]. It takes 9 days [2].",
    "It takes 9 days [2].",
    "The team answers [2]. Mail anna.berg@example.com or call +44 20 7946 0958. The yard opens.",
    "Leave [1].\nCard 4111 1111 1111 1111 and DE89 3704 0044 0532 0130 00 in the yard [3]",
    "27 days [1]. NOT_IN_CONTEXT",
    "Employees call the team. Number 7946 0958 [2",
    "  \n",
    "",
    "leave " * 90 + "[1].",
    "the yard opens and " * 30 + "anna.berg@example.com " + "the team answers and " * 10,
]


def stream(deltas: list[str]) -> tuple[str, GuardedAnswer]:
    guard = AnswerGuard(PASSAGES, QUESTION, mask)
    streamed = "".join(guard.feed(delta) for delta in deltas) + guard.finish()
    return streamed, guard.result()


def cut_at(text: str, places: set[int]) -> list[str]:
    borders = [0, *sorted(place for place in places if place < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@settings(deadline=None)
@given(st.sampled_from(ANSWERS), st.sets(st.integers(0, 900), max_size=40))
def test_deltas_change_nothing(answer: str, places: set[int]) -> None:
    assert stream(cut_at(answer, places)) == stream([answer])


@settings(deadline=None)
@given(st.text(alphabet="a1 .\n[]@+-2T", max_size=120), st.sets(st.integers(0, 120), max_size=20))
def test_deltas_change_nothing_in_any_text(answer: str, places: set[int]) -> None:
    assert stream(cut_at(answer, places)) == stream([answer])


@settings(deadline=None)
@given(st.sampled_from(ANSWERS), st.sets(st.integers(0, 900), max_size=40))
def test_streamed_text_is_the_recorded_text(answer: str, places: set[int]) -> None:
    streamed, result = stream(cut_at(answer, places))
    assert streamed == result.text


ITEMS = [
    "anna.berg@example.com",
    "+44 20 7946 0958",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "123-45-6789",
]


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("lead", ["", "The yard opens. ", "the team answers in the yard " * 12])
def test_personal_data_cut_at_any_place_is_masked(item: str, lead: str) -> None:
    answer = f"{lead}The team: {item} in the yard [3]."
    passages = [*PASSAGES, Passage(4, "Directory", (), item)]  # grounded, and still not to leave
    start = answer.index(item)
    for place in range(start, start + len(item) + 1):
        guard = AnswerGuard(passages, QUESTION, mask)
        streamed = guard.feed(answer[:place])
        assert item[:6] not in streamed
        streamed += guard.feed(answer[place:]) + guard.finish()
        assert item[:6] not in streamed
        assert re.search(r"The team: \[[A-Z]+\] in the yard \[3\]", streamed)
        assert guard.result().verdicts[0] == Verdict("personal_data", "masked")


@pytest.mark.parametrize("phrase", ["NOT_IN_CONTEXT", "I don't know.", "I'm sorry, but I can't."])
def test_nothing_of_a_refusal_phrase_is_ever_streamed(phrase: str) -> None:
    guard = AnswerGuard(PASSAGES, QUESTION, mask)
    assert [guard.feed(character) for character in phrase] == [""] * len(phrase)
    assert guard.finish() == TEXTS[Refusal.NOT_IN_CONTEXT]
    assert guard.result().refusal is Refusal.NOT_IN_CONTEXT
    assert guard.result().markers == ()


def test_refusal_token_after_an_answer_ends_it_unseen() -> None:
    streamed, result = stream(["Every employee gets leave [1]. NOT_IN_CONTEXT"])
    assert streamed == "Every employee gets leave [1]."
    assert result.refusal is None


def test_ungrounded_figure_never_leaves_and_refuses_the_answer() -> None:
    guard = AnswerGuard(PASSAGES, QUESTION, mask)
    assert guard.feed("An employee gets 31 days [1]. More") == ""
    assert guard.ended
    assert guard.finish() == TEXTS[Refusal.UNGROUNDED]
    assert guard.result().verdicts[1] == Verdict("groundedness", "refused")


def test_answer_ends_with_its_last_grounded_sentence() -> None:
    streamed, result = stream(["Every employee gets leave [1]. That is 31 days. So there."])
    assert streamed == "Every employee gets leave [1]."
    assert result.verdicts[1] == Verdict("groundedness", "cut")
    assert result.markers == (1,)


def test_marker_that_points_nowhere_is_dropped_from_the_stream() -> None:
    streamed, result = stream(["27 days [1][8]"])
    assert streamed == "27 days [1]"
    assert result.markers == (1,)


def test_empty_answer_is_a_refusal() -> None:
    assert stream([" \n"])[1].refusal is Refusal.EMPTY_ANSWER
    assert stream(["[9]"])[1].refusal is Refusal.EMPTY_ANSWER


def test_a_sentence_leaves_as_soon_as_the_next_begins() -> None:
    guard = AnswerGuard(PASSAGES, QUESTION, mask)
    assert guard.feed("Every employee gets leave [1]. ") == ""
    assert guard.feed("T") == "Every employee gets leave [1]."


def test_text_without_sentences_is_held_for_a_bounded_window_only() -> None:
    guard = AnswerGuard(PASSAGES, QUESTION, mask)
    fed = 0
    while not guard.feed("leave "):
        fed += 6
        assert fed <= HOLD_CHARS + 12
    assert fed > LOOKAHEAD_CHARS


def test_text_without_spaces_is_held_for_a_bounded_window_only() -> None:
    guard = AnswerGuard([Passage(1, "t", (), "x" * 5000)], QUESTION, mask)
    streamed = guard.feed("-" * (HARD_LIMIT_CHARS + 1))
    assert len(streamed) >= HARD_LIMIT_CHARS - LOOKAHEAD_CHARS


def test_template_tokens_of_the_model_do_not_leave() -> None:
    assert stream(["27 days [1]<|im_end|>"])[0] == "27 days [1]"


def test_grounded_answer_passes_both_guardrails() -> None:
    assert stream(["27 days [1]"])[1] == GuardedAnswer(
        "27 days [1]",
        (1,),
        None,
        (Verdict("personal_data", "passed"), Verdict("groundedness", "passed")),
    )
