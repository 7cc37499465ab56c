"""Counts an answer or a thumb once, and watches what the counts say."""

from dataclasses import dataclass
from functools import partial

import structlog

from services.monitor.adapters import counts, questions, watches
from services.monitor.adapters.tables import AnswerRow, ThumbRow
from services.monitor.domain.answers import AnswerFacts, facts_of
from services.monitor.handlers import budgets
from services.monitor.handlers.parts import Parts
from services.monitor.handlers.sharing import watch_answer, watch_thumb
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery, UnitOfWork
from tidemill.bus.bus import INBOX_KEPT
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
    facts, old = facts_of(message), is_old(delivery, parts)
    told = await delivery.apply(partial(_count, parts=parts, facts=facts, old=old))
    if told is not None:
        parts.figures.answer(facts)
    for reason in told or ():
        parts.figures.alert(facts.tenant_id, reason)


def is_old(delivery: Delivery, parts: Parts) -> bool:
    """Whether the inbox may have forgotten the event, so that our own rows must tell."""
    return delivery.time.timestamp() < parts.now() - INBOX_KEPT.total_seconds()


def _count(unit: UnitOfWork, parts: Parts, facts: AnswerFacts, old: bool) -> list[str] | None:
    """Reasons of the alerts that the answer raised; None when it was counted before."""
    # A flush before each look for a row would write the rows of each event by themselves.
    with unit.session.no_autoflush:
        answered = facts.answered_time.timestamp()
        if old and counts.is_forgotten(unit.session, AnswerRow, answered):
            return None
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
    thumb = Thumb(message.answer_id, up, said_at, is_old(delivery, parts))
    told = await delivery.apply(partial(_count_thumb, parts=parts, thumb=thumb))
    if told is not None:
        parts.figures.thumb(delivery.tenant_id, up)
    for reason in told or ():
        parts.figures.alert(delivery.tenant_id, reason)


@dataclass(frozen=True)
class Thumb:
    """said_at: seconds since the epoch. old: see is_old."""

    answer_id: str
    up: bool
    said_at: float
    old: bool


def _count_thumb(unit: UnitOfWork, parts: Parts, thumb: Thumb) -> list[str] | None:
    """Reasons of the alerts that the thumb raised; None when it changes nothing."""
    with unit.session.no_autoflush:
        if thumb.old and counts.is_forgotten(unit.session, ThumbRow, thumb.said_at):
            return None
        if not watches.keep_thumb(unit, thumb.answer_id, thumb.up, thumb.said_at):
            return None
        answer = watches.counted_answer(unit, thumb.answer_id)
        if answer is None or not answer.production:
            return []
        return watch_thumb(unit, parts, thumb.answer_id, answer.release_id, up=thumb.up)


async def forget_old(parts: Parts) -> None:
    """Drops answers and thumbs that no feedback is expected for any more."""
    before = parts.now() - parts.keep_seconds
    while await parts.bus.write("", lambda unit: counts.forget_answers(unit, before, BATCH)):
        log.debug("answers_forgotten")
