"""Puts together what the next run of a tenant would learn."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from services.trainer.adapters import signals_store as signals
from services.trainer.adapters.store import FeedbackRow
from services.trainer.domain.dataset import Limits, select
from services.trainer.domain.lessons import Lesson, lesson_of

# Feedback looked at for one example that is kept: corrections of the same prompt fall together.
LOOKBACK = 4


@dataclass(frozen=True)
class Harvest:
    """Selected lessons, newest first; how many of them no run has used, and when those came."""

    lessons: tuple[Lesson, ...]
    fresh: int
    first: datetime | None
    last: datetime | None
    traceparents: tuple[str, ...]


def harvest(session: Session, tenant_id: str, limits: Limits) -> Harvest:
    rows = signals.usable(session, tenant_id, limits.max_examples * LOOKBACK)
    wanted = {row.answer_id for row in rows} | {row.other for row in rows if row.other}
    answers = signals.answers(session, tenant_id, wanted)
    lessons = []
    for row in rows:
        feedback = signals.feedback_of(row)
        lesson = lesson_of(feedback, answers[row.answer_id], answers.get(row.other))
        if isinstance(lesson, Lesson):
            lessons.append(lesson)
    withdrawn = signals.thumbs_down(session, tenant_id)
    return _harvest(select(lessons, withdrawn, limits), rows)


def _harvest(lessons: tuple[Lesson, ...], rows: Iterable[FeedbackRow]) -> Harvest:
    by_id = {row.feedback_id: row for row in rows}
    chosen = [by_id[lesson.feedback_id] for lesson in lessons]
    times = [row.received_time for row in by_id.values() if not row.run_id]
    return Harvest(
        lessons=lessons,
        fresh=sum(not row.run_id for row in chosen),
        first=min(times, default=None),
        last=max(times, default=None),
        traceparents=tuple(row.traceparent for row in chosen if not row.run_id and row.traceparent),
    )
