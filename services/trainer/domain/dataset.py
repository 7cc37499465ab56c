"""Which lessons make a data set, and its one canonical form."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.trainer.domain.lessons import Lesson


@dataclass(frozen=True)
class Limits:
    """max_examples: lessons of one run. max_user_share: part of them that one user may give."""

    max_examples: int
    max_user_share: float


@dataclass(frozen=True)
class Snapshot:
    """A data set; the same lessons give the same hash, in whatever order they came."""

    lessons: tuple[Lesson, ...]
    content_hash: str

    @property
    def dataset_id(self) -> str:
        return f"ds_{self.content_hash[:16]}"

    @property
    def preference_pairs(self) -> int:
        return sum(bool(lesson.rejected) for lesson in self.lessons)


def select(
    lessons: Iterable[Lesson], withdrawn: Mapping[str, datetime], limits: Limits
) -> tuple[Lesson, ...]:
    """The lessons of the next run, newest first.

    One lesson a prompt: what a user wrote outranks a thumb, then the newest stands. `withdrawn`
    maps an answer to its last thumb down, which takes back an earlier thumb up. No user gives
    more than the share of the limits, so that one account cannot steer the model.
    """
    standing = (lesson for lesson in lessons if not _is_withdrawn(lesson, withdrawn))
    by_rank = sorted(standing, key=_rank, reverse=True)
    one_each = {lesson.prompt: lesson for lesson in reversed(by_rank)}.values()
    newest = sorted(one_each, key=_age, reverse=True)
    return _capped(newest, limits)


def snapshot(lessons: Sequence[Lesson]) -> Snapshot:
    ordered = tuple(sorted(lessons, key=lambda lesson: (lesson.prompt, lesson.feedback_id)))
    content = "".join(line(lesson) for lesson in ordered)
    return Snapshot(ordered, hashlib.sha256(content.encode()).hexdigest())


def line(lesson: Lesson) -> str:
    """One canonical JSON line. The user's hash stays out: training has no use for it."""
    record = {
        "prompt": lesson.prompt,
        "completion": lesson.target,
        "rejected": lesson.rejected,
        "answer_id": lesson.answer_id,
        "feedback_id": lesson.feedback_id,
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def _is_withdrawn(lesson: Lesson, withdrawn: Mapping[str, datetime]) -> bool:
    down = withdrawn.get(lesson.answer_id)
    return not lesson.explicit and down is not None and down >= lesson.time


def _age(lesson: Lesson) -> tuple[datetime, str]:
    return lesson.time, lesson.feedback_id


def _rank(lesson: Lesson) -> tuple[bool, datetime, str]:
    return lesson.explicit, lesson.time, lesson.feedback_id


def _capped(newest: Sequence[Lesson], limits: Limits) -> tuple[Lesson, ...]:
    each = _per_user(Counter(lesson.user_hash for lesson in newest), limits)
    taken: Counter[str] = Counter()
    kept: list[Lesson] = []
    for lesson in newest:
        if len(kept) < limits.max_examples and taken[lesson.user_hash] < each:
            taken[lesson.user_hash] += 1
            kept.append(lesson)
    return tuple(kept)


def _per_user(given: Mapping[str, int], limits: Limits) -> int:
    """The most lessons a user may give so that nobody has more than the share of what is left.

    Too few users for the share leave one lesson each.
    """
    for each in range(min(max(given.values(), default=1), limits.max_examples), 1, -1):
        total = min(limits.max_examples, sum(min(count, each) for count in given.values()))
        if each <= limits.max_user_share * total:
            return each
    return 1
