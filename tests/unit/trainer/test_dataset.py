"""Which lessons a run takes, and that a data set does not depend on the order they came in."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.trainer.domain.dataset import Limits, line, select, snapshot
from services.trainer.domain.lessons import Lesson

Lessons = Callable[..., Lesson]
WIDE = Limits(max_examples=1000, max_user_share=1.0)


def test_the_same_lessons_in_any_order_give_the_same_hash(lesson: Lessons) -> None:
    lessons = [lesson(number) for number in range(30)]
    shuffled = random.Random(4).sample(lessons, len(lessons))
    assert (
        snapshot(select(lessons, {}, WIDE)).content_hash
        == snapshot(select(shuffled, {}, WIDE)).content_hash
    )


def test_another_target_gives_another_hash(lesson: Lessons) -> None:
    one = snapshot([lesson(1)]).content_hash
    assert snapshot([lesson(1, target="other [1]")]).content_hash != one


def test_the_user_is_not_written_into_the_data_set(lesson: Lessons) -> None:
    assert "user-1" not in line(lesson(1))


def test_a_line_is_one_line_whatever_the_text(lesson: Lessons) -> None:
    assert line(lesson(1, target="a\u2028b\nc [1]")).count("\n") == 1


def test_the_newest_lesson_of_a_prompt_stands(lesson: Lessons) -> None:
    old, new = lesson(1, prompt="same"), lesson(2, prompt="same")
    assert select([new, old], {}, WIDE) == (new,)


def test_what_a_user_wrote_outranks_a_later_thumb(lesson: Lessons) -> None:
    written, thumb = lesson(1, prompt="same"), lesson(2, prompt="same", explicit=False)
    assert select([written, thumb], {}, WIDE) == (written,)


def test_a_thumb_down_takes_back_an_earlier_thumb_up(lesson: Lessons) -> None:
    up = lesson(1, explicit=False)
    later, earlier = up.time + timedelta(minutes=1), up.time - timedelta(minutes=1)
    assert select([up], {up.answer_id: later}, WIDE) == ()
    assert select([up], {up.answer_id: earlier}, WIDE) == (up,)


def test_a_thumb_down_does_not_take_back_a_correction(lesson: Lessons) -> None:
    written = lesson(1)
    assert select([written], {written.answer_id: written.time}, WIDE) == (written,)


def test_the_newest_lessons_are_kept_up_to_the_limit(lesson: Lessons) -> None:
    chosen = select([lesson(n) for n in range(9)], {}, Limits(3, 1.0))
    assert [kept.feedback_id for kept in chosen] == ["fb-008", "fb-007", "fb-006"]


@given(
    counts=st.lists(st.integers(1, 40), min_size=5, max_size=12),
    share=st.sampled_from([0.2, 0.25, 0.5]),
    most=st.integers(20, 120),
)
def test_no_user_gives_more_than_the_share(counts: list[int], share: float, most: int) -> None:
    lessons = [
        plain_lesson(f"user-{user}", f"{user}-{n}")
        for user, count in enumerate(counts)
        for n in range(count)
    ]
    chosen = select(lessons, {}, Limits(most, share))
    given_by = Counter(kept.user_hash for kept in chosen)
    assert len(chosen) <= most
    assert max(given_by.values()) <= max(1, share * len(chosen))


def test_a_single_user_teaches_one_lesson_unless_the_cap_is_off(lesson: Lessons) -> None:
    lessons = [lesson(n, user_hash="alone") for n in range(20)]
    assert len(select(lessons, {}, Limits(100, 0.25))) == 1
    assert len(select(lessons, {}, Limits(100, 1.0))) == 20


def plain_lesson(user: str, name: str) -> Lesson:
    time = datetime(2031, 1, 1, tzinfo=UTC)
    return Lesson(name, "x [1]", "", name, name, user, True, time)
