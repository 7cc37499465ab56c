"""Collects what live users see of a canary, and promotes it or takes it back."""

from functools import partial

import structlog
from opentelemetry.trace import SpanKind

from services.evaluator.adapters import ledger, traffic
from services.evaluator.adapters.tables import CanaryAnswerRow, ReleaseRow
from services.evaluator.domain import releases
from services.evaluator.domain.canary import Action, Judgement, judge_canary
from services.evaluator.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery, UnitOfWork
from tidemill.faults import CALLERS_OWN
from tidemill.ids import fits
from tidemill.telemetry.tracing import context_of
from tidemill.timestamps import time_by, utc_time

log = structlog.get_logger()

ERROR = "error"


async def note_answer(message: events.AnswerGenerated, delivery: Delivery, *, parts: Parts) -> None:
    """Counts a user's answer for the arm that gave it, while a canary runs."""
    if message.purpose != events.PURPOSE_PRODUCTION:
        return
    answered = utc_time(message, "answered_time").timestamp()
    most = parts.canary.max_answers
    await delivery.apply(partial(_note_answer, message=message, answered=answered, most=most))


def _note_answer(
    unit: UnitOfWork, message: events.AnswerGenerated, answered: float, most: int
) -> None:
    canary = ledger.canary_of(unit.session, unit.tenant_id)
    if canary is None or answered < canary.changed_at:
        return
    if message.release_id in (canary.release_id, canary.parent_id):
        traffic.add_answer(unit, _answer_row(message, unit.tenant_id), most)


def _answer_row(message: events.AnswerGenerated, tenant_id: str) -> CanaryAnswerRow:
    return CanaryAnswerRow(
        tenant_id=tenant_id,
        answer_id=message.answer_id,
        release_id=message.release_id,
        # A caller whose time ran out was kept waiting that long, and no longer: its duration
        # counts, so that a canary that is too slow for its callers does not pass for lack of them.
        failed=message.finish_reason == ERROR and message.error_reason not in CALLERS_OWN,
        refused=message.refused,
        duration_seconds=message.duration_seconds,
    )


async def note_thumb(message: events.FeedbackRecorded, delivery: Delivery) -> None:
    """Keeps a thumb while a canary runs, whether its answer has come or not."""
    if not message.HasField("thumb") or not fits(message.answer_id):
        return
    recorded = time_by(message, "recorded_time", delivery.time).timestamp()

    def note(unit: UnitOfWork) -> None:
        if ledger.canary_of(unit.session, unit.tenant_id) is not None:
            traffic.set_thumb(unit, message.answer_id, message.thumb.up, recorded)

    await delivery.apply(note)


async def watch_canaries(parts: Parts) -> None:
    """Looks at every canary that runs."""
    for canary in await parts.database.read(ledger.canaries):
        judgement = await _judgement(parts, canary)
        if judgement.action is not Action.WAIT:
            await _decide(parts, canary, judgement)


async def _judgement(parts: Parts, canary: ReleaseRow) -> Judgement:
    new, control = await parts.database.read(
        lambda session: (
            traffic.read_arm(session, canary.tenant_id, canary.release_id),
            traffic.read_arm(session, canary.tenant_id, canary.parent_id),
        )
    )
    elapsed = parts.elapsed(f"canary {canary.release_id}", canary.changed_at)
    return judge_canary(new, control, elapsed, canary.refusal_gap, parts.canary)


async def _decide(parts: Parts, canary: ReleaseRow, judgement: Judgement) -> None:
    """The ledger's state decides: a canary that was ended meanwhile stays as it is."""
    work = partial(_end_canary, release_id=canary.release_id, judgement=judgement, now=parts.now())
    with parts.tracer.start_as_current_span(
        "decide canary", context=context_of(canary.traceparent), kind=SpanKind.INTERNAL
    ):
        decided = await parts.bus.write(canary.tenant_id, work)
    if decided:
        log.info(
            "canary_decided",
            release=canary.release_id,
            action=judgement.action.value,
            reasons=list(judgement.reasons),
        )


def _end_canary(unit: UnitOfWork, release_id: str, judgement: Judgement, now: float) -> bool:
    """False when it was ended meanwhile."""
    held = ledger.read_ledger(unit.session, unit.tenant_id, lock=True)
    if held.entries[release_id].state is not releases.State.CANARY:
        return False
    move = releases.promote if judgement.action is Action.PROMOTE else releases.roll_back
    changes = move(held, release_id, judgement.reasons)
    ledger.write_changes(unit, held, changes, ledger.ChangeFacts(now))
    traffic.forget_traffic(unit)
    return True
