"""Scorers: what counts as right, on answers as the serving path gives them."""

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.domain import scoring
from services.evaluator.domain.results import Answer, failed_result, primary_score, score_answer
from services.evaluator.domain.suites import Sample

# Its logging library closes, with the other handlers, whatever stream it saw at import; pytest's
# own must not be that stream.
with contextlib.redirect_stderr(sys.__stderr__):
    from rouge_score.rouge_scorer import RougeScorer

LEAVE = Sample("leave", "How many days of leave?", "27 days", ("hr/annual-leave",))
UNKNOWN = Sample("unknown", "What is the chairman's shoe size?", "")


def answer(text: str, *, refused: bool = False, cited: tuple[str, ...] = ()) -> Answer:
    return Answer("ans_1", text, refused, cited, duration_seconds=0.5, cost_micros=7)


@pytest.mark.parametrize(
    ("said", "f1", "exact"),
    [
        ("27 days [1]", 1.0, 1.0),
        ("The 27 Days.", 1.0, 1.0),
        ("27", 2 / 3, 0.0),
        ("You get 27 days of leave [1][2]", 0.5, 0.0),
        ("a fortnight", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_words_count_and_citation_markers_do_not(said: str, f1: float, exact: float) -> None:
    assert scoring.token_f1(said, LEAVE.answer) == pytest.approx(f1)
    assert scoring.exact_match(said, LEAVE.answer) == exact


def test_repeated_words_are_counted_once_per_occurrence_in_the_target() -> None:
    assert scoring.token_f1("27 27 27 27", "27 days") == pytest.approx(2 * 1 / (4 + 2))


def test_rouge_l_sees_word_order_where_f1_does_not() -> None:
    target = "call the harbour office before noon"
    shuffled = "noon before office harbour the call"
    assert scoring.token_f1(shuffled, target) == 1.0
    assert scoring.rouge_l(shuffled, target) < 0.4
    assert scoring.rouge_l(target + " [1]", target) == 1.0


WORDS = st.text(alphabet="ab c1.,-[]é", max_size=40)


@given(WORDS, WORDS)
def test_rouge_l_is_that_of_the_rouge_score_package(said: str, target: str) -> None:
    theirs = RougeScorer(["rougeL"]).score(target, scoring.strip_citations(said))["rougeL"]
    assert scoring.rouge_l(said, target) == pytest.approx(theirs.fmeasure)


@given(st.text(), st.text())
def test_every_scorer_stays_between_0_and_1_on_any_text(said: str, target: str) -> None:
    for scorer in (scoring.exact_match, scoring.token_f1, scoring.rouge_l):
        assert 0.0 <= scorer(said, target) <= 1.0


@given(st.text())
def test_an_answer_equals_itself(text: str) -> None:
    assert scoring.exact_match(text, text) == 1.0


def test_an_answer_with_the_right_document_is_scored_and_cited_right() -> None:
    result = score_answer(LEAVE, answer("27 days [2]", cited=("it/vpn", "hr/annual-leave")))
    assert (result.f1, result.exact_match, result.rouge_l) == (1.0, 1.0, 1.0)
    assert result.citation_correct
    assert primary_score(True, result) == 1.0


def test_a_citation_of_another_document_is_wrong() -> None:
    assert not score_answer(LEAVE, answer("27 days", cited=("it/vpn",))).citation_correct


def test_refusing_an_answerable_question_scores_nothing() -> None:
    result = score_answer(LEAVE, answer("NOT_IN_CONTEXT", refused=True))
    assert primary_score(True, result) == 0.0


def test_refusing_an_unanswerable_question_is_right_and_guessing_is_wrong() -> None:
    assert primary_score(False, score_answer(UNKNOWN, answer("", refused=True))) == 1.0
    assert primary_score(False, score_answer(UNKNOWN, answer("size 44"))) == 0.0


@pytest.mark.parametrize("answerable", [True, False])
def test_a_failed_sample_scores_nothing(answerable: bool) -> None:
    assert primary_score(answerable, failed_result("INTERNAL")) == 0.0
