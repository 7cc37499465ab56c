"""Collects what live users see of a canary, and promotes it or takes it back."""

import structlog
from opentelemetry.trace import SpanKind

from services.evaluator.adapters import ledger, traffic
from services.evaluator.adapters.tables import CanaryAnswerRow, ReleaseRow
from services.evaluator.domain import releases
from services.evaluator.domain.canary import Action, Judgement, judge_canary
from services.evaluator.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery
from tidemill.faults import CALLERS_OWN
from tidemill.ids import fits
from tidemill.telemetry.tracing import context_of
from tidemill.timestamps import utc_time

log = structlog.get_logger()

ERROR = "error"


async def note_answer(message: events.AnswerGenerated, delivery: Delivery, *, parts: Parts) -> None:
    """Counts a user's answer for the arm that gave it, while a canary runs."""
    if message.purpose != events.PURPOSE_PRODUCTION:
        return
    answered = utc_time(message, "answered_time").timestamp()
    async with delivery.apply() as unit:
        canary = await ledger.canary_of(unit.session, delivery.tenant_id)
        if canary is None or answered < canary.changed_at:
            return
        if message.release_id in (canary.release_id, canary.parent_id):
            row = _answer_row(message, delivery.tenant_id)
            await traffic.add_answer(unit, row, parts.canary.max_answers)


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
    async with delivery.apply() as unit:
        if await ledger.canary_of(unit.session, delivery.tenant_id) is not None:
            recorded = delivery.time.timestamp()
            await traffic.set_thumb(unit, message.answer_id, message.thumb.up, recorded)


async def watch_canaries(parts: Parts) -> None:
    """Looks at every canary that runs."""
    for canary in await ledger.canaries(parts.database):
        judgement = await _judgement(parts, canary)
        if judgement.action is not Action.WAIT:
            await _decide(parts, canary, judgement)


async def _judgement(parts: Parts, canary: ReleaseRow) -> Judgement:
    async with parts.database.session() as session:
        new = await traffic.read_arm(session, canary.tenant_id, canary.release_id)
        control = await traffic.read_arm(session, canary.tenant_id, canary.parent_id)
    elapsed = parts.elapsed(f"canary {canary.release_id}", canary.changed_at)
    return judge_canary(new, control, elapsed, canary.refusal_gap, parts.canary)


async def _decide(parts: Parts, canary: ReleaseRow, judgement: Judgement) -> None:
    """The ledger's state decides: a canary that was ended meanwhile stays as it is."""
    move = releases.promote if judgement.action is Action.PROMOTE else releases.roll_back
    with parts.tracer.start_as_current_span(
        "decide canary", context=context_of(canary.traceparent), kind=SpanKind.INTERNAL
    ):
        async with parts.bus.unit(canary.tenant_id) as unit:
            held = await ledger.read_ledger(unit.session, canary.tenant_id, lock=True)
            if held.entries[canary.release_id].state is not releases.State.CANARY:
                return
            changes = move(held, canary.release_id, judgement.reasons)
            await ledger.write_changes(unit, held, changes, ledger.ChangeFacts(parts.now()))
            await traffic.forget_traffic(unit)
    log.info(
        "canary_decided",
        release=canary.release_id,
        action=judgement.action.value,
        reasons=list(judgement.reasons),
    )
