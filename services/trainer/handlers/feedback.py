"""Joins feedback with its answer, whichever comes first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from opentelemetry.metrics import Meter
from sqlalchemy.orm import Session

from services.trainer.adapters import signals_store as signals
from services.trainer.adapters.store import AnswerRow, FeedbackRow, FeedbackState
from services.trainer.domain.lessons import Skip, lesson_of
from services.trainer.domain.signals import Answer, Feedback, Kind
from tidemill.bus import Delivery, UnitOfWork
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.telemetry.tracing import current_traceparent

log = structlog.get_logger()


@dataclass(frozen=True)
class Verdict:
    """Where feedback stands, and the reason if it is skipped."""

    state: FeedbackState
    reason: str = ""


class FeedbackMeter:
    """Counts what became of feedback; the reasons are few and known."""

    def __init__(self, meter: Meter) -> None:
        self._judged = meter.create_counter(
            "tidemill_trainer_feedback",
            unit="1",
            description="Feedback by what became of it",
        )

    def count(self, verdict: Verdict, number: int = 1) -> None:
        self._judged.add(number, {"state": verdict.state.value, "reason": verdict.reason})


async def record_answer(
    answer: Answer, evaluation: bool, delivery: Delivery, meter: FeedbackMeter
) -> None:
    """Keep an answer and judge the feedback that waited for it."""

    def work(unit: UnitOfWork) -> list[Verdict]:
        session, tenant = unit.session, unit.tenant_id
        if not signals.add_answer(session, tenant, answer, evaluation):
            return []
        waiting = signals.waiting_for(session, tenant, answer.answer_id)
        return [settle(session, row) for row in waiting]

    for verdict in await delivery.apply(work):
        meter.count(verdict)


async def record_feedback(feedback: Feedback, delivery: Delivery, meter: FeedbackMeter) -> None:
    """Keep feedback and judge it, or let it wait for its answer."""
    trace, now = current_traceparent() or delivery.traceparent, delivery.clock.now()

    def work(unit: UnitOfWork) -> Verdict | None:
        row = signals.add_feedback(unit.session, unit.tenant_id, feedback, now, trace)
        return settle(unit.session, row) if row else None

    verdict = await delivery.apply(work)
    if verdict is not None:
        meter.count(verdict)


async def give_up_waiting(
    database: Database, clock: Clock, wait: timedelta, meter: FeedbackMeter
) -> int:
    """Skip feedback whose answer did not come in time; returns how much."""
    before: datetime = clock.now() - wait
    count = await database.write(partial(signals.give_up_waiting, before=before))
    if count:
        log.warning("feedback_given_up", reason=Skip.ANSWER_UNKNOWN.value, count=count)
        meter.count(Verdict(FeedbackState.SKIPPED, Skip.ANSWER_UNKNOWN), count)
    return count


def settle(session: Session, row: FeedbackRow) -> Verdict:
    """Judge one row and write the verdict into it."""
    verdict = judge(session, row)
    row.state, row.reason = verdict.state.value, verdict.reason
    return verdict


def judge(session: Session, row: FeedbackRow) -> Verdict:
    feedback = signals.feedback_of(row)
    answer = signals.answer_row(session, row.tenant_id, feedback.answer_id)
    other = preferred(session, row.tenant_id, feedback)
    if answer is None or (feedback.kind is Kind.PREFERRED_ANSWER and other is None):
        return Verdict(FeedbackState.WAITING)
    if answer.evaluation or (other is not None and other.evaluation):
        return Verdict(FeedbackState.SKIPPED, Skip.EVALUATION_ANSWER)
    better = signals.answer_of(other) if other else None
    lesson = lesson_of(feedback, signals.answer_of(answer), better)
    if isinstance(lesson, Skip):
        return Verdict(FeedbackState.SKIPPED, lesson)
    return Verdict(FeedbackState.USABLE)


def preferred(session: Session, tenant_id: str, feedback: Feedback) -> AnswerRow | None:
    if feedback.kind is not Kind.PREFERRED_ANSWER:
        return None
    return signals.answer_row(session, tenant_id, feedback.other)
