"""Reads and writes answers and feedback of one tenant."""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from services.trainer.adapters.store import AnswerRow, FeedbackRow, FeedbackState
from services.trainer.domain.lessons import Skip
from services.trainer.domain.signals import Answer, Feedback, Kind, Passage

CHUNK = 400


def add_answer(session: Session, tenant_id: str, answer: Answer, evaluation: bool) -> bool:
    """Keep the answer; False when it is there already."""
    if session.get(AnswerRow, (tenant_id, answer.answer_id)):
        return False
    shown = [[p.marker, p.chunk_id, p.document_id] for p in answer.passages]
    row = AnswerRow(
        tenant_id=tenant_id,
        answer_id=answer.answer_id,
        user_hash=answer.user_hash,
        # An evaluation's text has no business here: the row only says that it was one.
        prompt="" if evaluation else answer.prompt,
        completion="" if evaluation else answer.completion,
        passages=json.dumps([] if evaluation else shown),
        refused=answer.refused,
        evaluation=evaluation,
    )
    session.add(row)
    return True


def add_feedback(
    session: Session,
    tenant_id: str,
    feedback: Feedback,
    received: datetime,
    traceparent: str,
) -> FeedbackRow | None:
    """Keep the feedback as waiting; None when its id is there already."""
    if session.get(FeedbackRow, (tenant_id, feedback.feedback_id)):
        return None
    row = FeedbackRow(
        tenant_id=tenant_id,
        feedback_id=feedback.feedback_id,
        answer_id=feedback.answer_id,
        kind=feedback.kind.value,
        text=feedback.text,
        unanswerable=feedback.unanswerable,
        document_ids=json.dumps(feedback.document_ids),
        other=feedback.other,
        recorded_time=feedback.recorded_time,
        received_time=received,
        traceparent=traceparent,
        state=FeedbackState.WAITING.value,
    )
    session.add(row)
    return row


def answer_row(session: Session, tenant_id: str, answer_id: str) -> AnswerRow | None:
    return session.get(AnswerRow, (tenant_id, answer_id))


def waiting_for(session: Session, tenant_id: str, answer_id: str) -> Sequence[FeedbackRow]:
    """Feedback that waits for the answer, as its subject or as the one it prefers."""
    query = select(FeedbackRow).where(
        FeedbackRow.tenant_id == tenant_id,
        FeedbackRow.state == FeedbackState.WAITING,
        or_(FeedbackRow.answer_id == answer_id, FeedbackRow.other == answer_id),
    )
    return (session.scalars(query)).all()


def give_up_waiting(session: Session, before: datetime) -> int:
    """Skip what was received before that time and still waits; returns how many."""
    waits = and_(FeedbackRow.state == FeedbackState.WAITING, FeedbackRow.received_time < before)
    count = session.scalar(select(func.count()).select_from(FeedbackRow).where(waits))
    if count:
        given_up = {"state": FeedbackState.SKIPPED, "reason": Skip.ANSWER_UNKNOWN}
        session.execute(update(FeedbackRow).where(waits).values(**given_up))
    return count or 0


def news(session: Session, at_least: int) -> Sequence[tuple[str, int]]:
    """Tenants and how much usable feedback no run has taken, where it is at least so much."""
    query = (
        select(FeedbackRow.tenant_id, func.count())
        .where(FeedbackRow.state == FeedbackState.USABLE, FeedbackRow.run_id == "")
        .group_by(FeedbackRow.tenant_id)
        .having(func.count() >= at_least)
        .order_by(FeedbackRow.tenant_id)
    )
    return [(tenant, count) for tenant, count in session.execute(query)]


def usable(session: Session, tenant_id: str, limit: int) -> Sequence[FeedbackRow]:
    """The newest usable feedback."""
    query = (
        select(FeedbackRow)
        .where(FeedbackRow.tenant_id == tenant_id, FeedbackRow.state == FeedbackState.USABLE)
        .order_by(FeedbackRow.recorded_time.desc(), FeedbackRow.feedback_id.desc())
        .limit(limit)
    )
    return (session.scalars(query)).all()


def answers(session: Session, tenant_id: str, answer_ids: set[str]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    wanted = sorted(answer_ids)
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        query = select(AnswerRow).where(
            AnswerRow.tenant_id == tenant_id, AnswerRow.answer_id.in_(part)
        )
        found |= {row.answer_id: answer_of(row) for row in session.scalars(query)}
    return found


def thumbs_down(session: Session, tenant_id: str) -> dict[str, datetime]:
    """Answers with a thumb down, and when the last one came."""
    query = (
        select(FeedbackRow.answer_id, func.max(FeedbackRow.recorded_time))
        .where(FeedbackRow.tenant_id == tenant_id, FeedbackRow.kind == Kind.THUMB_DOWN)
        .group_by(FeedbackRow.answer_id)
    )
    return {answer_id: time for answer_id, time in session.execute(query)}


def take_news(session: Session, tenant_id: str, run_id: str, upto: datetime) -> list[str]:
    """Mark what was received up to then, and no run has taken, as this run's; returns its ids."""
    query = select(FeedbackRow.feedback_id).where(
        FeedbackRow.tenant_id == tenant_id,
        FeedbackRow.run_id == "",
        FeedbackRow.state == FeedbackState.USABLE,
        FeedbackRow.received_time <= upto,
    )
    taken = sorted((session.scalars(query)).all())
    mark_taken(session, tenant_id, run_id, taken)
    return taken


def mark_taken(session: Session, tenant_id: str, run_id: str, feedback_ids: Sequence[str]) -> None:
    """The first run that took a piece of feedback keeps it."""
    for start in range(0, len(feedback_ids), CHUNK):
        part = feedback_ids[start : start + CHUNK]
        free = (FeedbackRow.tenant_id == tenant_id, FeedbackRow.run_id == "")
        session.execute(
            update(FeedbackRow)
            .where(*free, FeedbackRow.feedback_id.in_(part))
            .values(run_id=run_id)
        )


def tenants(session: Session) -> list[str]:
    """Everyone who has given feedback."""
    query = select(FeedbackRow.tenant_id).distinct().order_by(FeedbackRow.tenant_id)
    return list((session.scalars(query)).all())


def outcomes(session: Session, tenant_id: str) -> dict[tuple[str, str], int]:
    """How much feedback is in each (state, reason)."""
    pair = (FeedbackRow.state, FeedbackRow.reason)
    query = select(*pair, func.count()).where(FeedbackRow.tenant_id == tenant_id).group_by(*pair)
    return {(state, reason): count for state, reason, count in session.execute(query)}


def answer_of(row: AnswerRow) -> Answer:
    return Answer(
        answer_id=row.answer_id,
        user_hash=row.user_hash,
        prompt=row.prompt,
        completion=row.completion,
        passages=tuple(Passage(*shown) for shown in json.loads(row.passages)),
        refused=row.refused,
    )


def feedback_of(row: FeedbackRow) -> Feedback:
    return Feedback(
        feedback_id=row.feedback_id,
        answer_id=row.answer_id,
        kind=Kind(row.kind),
        recorded_time=row.recorded_time,
        text=row.text,
        unanswerable=row.unanswerable,
        document_ids=tuple(json.loads(row.document_ids)),
        other=row.other,
    )
