"""Counts an answer or a thumb once, and watches what the counts say."""

from services.monitor.adapters import counts, questions, watches
from services.monitor.domain.answers import AnswerFacts, facts_of
from services.monitor.handlers import budgets
from services.monitor.handlers.parts import Parts
from services.monitor.handlers.sharing import watch_answer, watch_thumb
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery, Unit
from tidemill.faults import Fault, Reason
from tidemill.ids import fits

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
    facts, told = facts_of(message), list[str]()
    async with delivery.apply() as unit:
        is_new = await counts.count_answer(unit, facts, parts.now())
        if is_new:
            told += await budgets.check_budget(unit, facts.day, parts.now())
            if facts.production:
                told += await _watch(unit, parts, facts)
    if is_new:
        parts.figures.answer(facts)
    for reason in told:
        parts.figures.alert(facts.tenant_id, reason)


async def _watch(unit: Unit, parts: Parts, facts: AnswerFacts) -> list[str]:
    asked_at = facts.answered_time.timestamp()
    await questions.add_question(unit, facts.embedding, asked_at, parts.drift, parts.now())
    told = await watch_answer(unit, parts, facts)
    thumb = await watches.thumb_on(unit, facts.answer_id)
    if thumb is not None:
        told += await watch_thumb(unit, parts, facts.answer_id, facts.release_id, up=thumb)
    return told


async def count_thumb(
    message: events.FeedbackRecorded, delivery: Delivery, *, parts: Parts
) -> None:
    """The latest thumb counts for the release that answered, in whatever order they come."""
    if not message.HasField("thumb") or not fits(message.answer_id):
        return
    told, up = list[str](), message.thumb.up
    async with delivery.apply() as unit:
        said_at = delivery.time.timestamp()
        is_new = await watches.keep_thumb(unit, message.answer_id, up, said_at)
        answer = await watches.counted_answer(unit, message.answer_id)
        if is_new and answer is not None and answer.production:
            told += await watch_thumb(unit, parts, answer.answer_id, answer.release_id, up=up)
    if is_new:
        parts.figures.thumb(delivery.tenant_id, up)
    for reason in told:
        parts.figures.alert(delivery.tenant_id, reason)


async def forget_old(parts: Parts) -> None:
    """Drops answers and thumbs that no feedback is expected for any more."""
    more = True
    while more:
        async with parts.bus.unit("") as unit:
            more = await counts.forget_answers(unit, parts.now() - parts.keep_seconds, BATCH)
