"""Counts an answer or a thumb once, and watches what the counts say."""

from functools import partial

import structlog

from services.monitor.adapters import counts, questions, watches
from services.monitor.domain.answers import AnswerFacts, facts_of
from services.monitor.handlers import budgets
from services.monitor.handlers.parts import Parts
from services.monitor.handlers.sharing import watch_answer, watch_thumb
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery, UnitOfWork
from tidemill.faults import Fault, Reason
from tidemill.ids import fits
from tidemill.timestamps import time_by

log = structlog.get_logger()

BATCH = 2_000
"""Rows of a table that one transaction forgets."""


async def count_answer(
    message: events.AnswerGenerated, delivery: Delivery, *, parts: Parts
) -> None:
    """Usage, spending, shares and drift in one transaction; what is told leaves with it."""
    if message.tenant_id != delivery.tenant_id:
        raise Fault(Reason.TENANT_MISMATCH)
    if not message.answer_id:
        raise Fault(Reason.SCHEMA_INVALID, field="answer_id")
    facts = facts_of(message)
    told = await delivery.apply(partial(_count, parts=parts, facts=facts))
    if told is not None:
        parts.figures.answer(facts)
    for reason in told or ():
        parts.figures.alert(facts.tenant_id, reason)


def _count(unit: UnitOfWork, parts: Parts, facts: AnswerFacts) -> list[str] | None:
    """Reasons of the alerts that the answer raised; None when it was counted before."""
    # A flush before each look for a row would write the rows of each event by themselves.
    with unit.session.no_autoflush:
        judged = counts.count_answer(unit, facts, parts.now())
        if judged is None:
            return None
        told = budgets.check_budget(unit, facts.day, parts.now())
        return told + _watch(unit, parts, facts, judged=judged) if facts.production else told


def _watch(unit: UnitOfWork, parts: Parts, facts: AnswerFacts, *, judged: bool) -> list[str]:
    asked_at = facts.answered_time.timestamp()
    questions.add_question(unit, facts.embedding, asked_at, parts.drift, parts.now())
    told = watch_answer(unit, parts, facts)
    thumb = watches.thumb_on(unit, facts.answer_id, written=judged)
    if thumb is not None:
        told += watch_thumb(unit, parts, facts.answer_id, facts.release_id, up=thumb)
    return told


async def count_thumb(
    message: events.FeedbackRecorded, delivery: Delivery, *, parts: Parts
) -> None:
    """The latest thumb counts for the release that answered, in whatever order they come."""
    if not message.HasField("thumb") or not fits(message.answer_id):
        return
    up, said_at = message.thumb.up, time_by(message, "recorded_time", delivery.time).timestamp()
    told = await delivery.apply(
        partial(_count_thumb, parts=parts, answer_id=message.answer_id, up=up, said_at=said_at)
    )
    if told is not None:
        parts.figures.thumb(delivery.tenant_id, up)
    for reason in told or ():
        parts.figures.alert(delivery.tenant_id, reason)


def _count_thumb(
    unit: UnitOfWork, parts: Parts, answer_id: str, up: bool, said_at: float
) -> list[str] | None:
    """Reasons of the alerts that the thumb raised; None when it changes nothing."""
    with unit.session.no_autoflush:
        if not watches.keep_thumb(unit, answer_id, up, said_at):
            return None
        answer = watches.counted_answer(unit, answer_id)
        if answer is None or not answer.production:
            return []
        return watch_thumb(unit, parts, answer_id, answer.release_id, up=up)


async def forget_old(parts: Parts) -> None:
    """Drops answers and thumbs that no feedback is expected for any more."""
    before = parts.now() - parts.keep_seconds
    while await parts.bus.write("", lambda unit: counts.forget_answers(unit, before, BATCH)):
        log.debug("answers_forgotten")
