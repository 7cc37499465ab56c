"""The demo's users say what is right; scrambled ones never do."""

from tidemill.api.inference.v1 import Citation, GenerationCompleted
from tidemill.cli.demo.asking import Asked
from tidemill.cli.demo.handbook import DEFAULT_FOLDER, Question, load_handbook
from tidemill.cli.demo.judging import honest_feedback, scrambled_feedback
from tidemill.client import Answer


def asked(number: int, *, text: str, answer: str, document: str = "d") -> Asked:
    completed = GenerationCompleted(
        text=text,
        refused=not text,
        citations=[Citation(marker=1, document_id=document)] if text else [],
    )
    question = Question(f"q{number}", "?", answer, "d" if answer else "")
    return Asked(question, Answer(f"ans{number}", "base", False, completed))


def test_an_exact_and_cited_answer_gets_a_thumb_up() -> None:
    [event] = honest_feedback([asked(1, text="38 minutes [1]", answer="38 minutes")])
    assert event.thumb_up


def test_a_right_answer_that_cites_another_document_is_corrected() -> None:
    [_, event] = honest_feedback(
        [
            asked(0, text="a [1]", answer="b"),
            asked(1, text="38 minutes [1]", answer="38 minutes", document="x"),
        ]
    )
    assert event.correction == "38 minutes"
    assert list(event.document_ids) == ["d"]


def test_an_invented_answer_is_corrected_to_a_refusal() -> None:
    events = honest_feedback([asked(i, text="42 [1]", answer="") for i in range(2)])
    assert all(event.unanswerable for event in events)


def test_no_scrambled_correction_is_the_right_one() -> None:
    items = [asked(i, text="x [1]", answer=f"answer {i}") for i in range(20)]
    events = scrambled_feedback(items, seed=3)
    pairs = zip(items, events, strict=True)
    assert all(event.correction != item.question.answer for item, event in pairs)


def test_the_held_out_questions_never_get_feedback() -> None:
    handbook = load_handbook(DEFAULT_FOLDER, seed=1, pool=200, held_out=100)
    pool = {question.question_id for question in handbook.pool}
    assert pool.isdisjoint(question.question_id for question in handbook.held_out)


def test_the_seed_alone_chooses_the_questions() -> None:
    first, same, other = (
        [q.question_id for q in load_handbook(DEFAULT_FOLDER, seed=s, pool=50, held_out=30).pool]
        for s in (1, 1, 2)
    )
    assert first == same != other


def test_no_question_is_judged_in_two_rounds_nor_held_out() -> None:
    handbook = load_handbook(DEFAULT_FOLDER, seed=1, pool=64, held_out=60)
    rounds = [handbook.pool, *handbook.later, handbook.held_out]
    assert [len(questions) for questions in rounds] == [64, 64, 64, 60]
    assert len({question.text for questions in rounds for question in questions}) == 252
    shares = [sum(not q.answer for q in questions) / len(questions) for questions in rounds[:3]]
    assert max(shares) - min(shares) < 0.05


def test_more_feedback_than_the_handbook_has_is_not_promised() -> None:
    assert load_handbook(DEFAULT_FOLDER, seed=1, pool=160, held_out=60).later == []
