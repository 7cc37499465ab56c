"""A trained adapter waits for its turn, then becomes the tenant's candidate."""

from functools import partial

import structlog
from sqlalchemy.orm import Session

from services.evaluator.adapters import evaluations, ledger
from services.evaluator.adapters.serving import Index
from services.evaluator.adapters.tables import EvaluationRow, WaitingAdapterRow
from services.evaluator.domain import releases
from services.evaluator.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery, UnitOfWork
from tidemill.faults import Fault, Reason
from tidemill.ids import derived_id
from tidemill.telemetry.tracing import context_of

log = structlog.get_logger()

BASE_RELEASE_ID = "base"
"""What inference answers with before any release: the base model."""
MAX_ADAPTER_NAME = 150


async def queue_adapter(
    message: events.AdapterTrained, delivery: Delivery, *, parts: Parts
) -> None:
    """Takes a trained adapter into the queue, once."""
    if message.tenant_id != delivery.tenant_id:
        raise Fault(Reason.TENANT_MISMATCH)
    if not 0 < len(message.adapter) <= MAX_ADAPTER_NAME or not message.artifact_uri:
        raise Fault(Reason.SCHEMA_INVALID, field="adapter")
    trace, now = delivery.traceparent, parts.now()
    await delivery.apply(partial(_queue, message=message, trace=trace, now=now))


def _queue(unit: UnitOfWork, message: events.AdapterTrained, trace: str, now: float) -> None:
    held = ledger.read_ledger(unit.session, unit.tenant_id)
    key = (unit.tenant_id, message.adapter)
    waits = unit.session.get(WaitingAdapterRow, key) is not None
    if waits or release_id_of(message.adapter) in held.entries:
        return
    unit.session.add(
        WaitingAdapterRow(
            tenant_id=unit.tenant_id,
            adapter=message.adapter,
            content=message.SerializeToString(deterministic=True),
            received_at=now,
            traceparent=trace,
        )
    )


def release_id_of(adapter: str) -> str:
    """Adapter names are immutable, so a release that brings one has its name."""
    return f"rel_{adapter}"


async def propose_waiting(parts: Parts) -> None:
    """Gives every tenant without a candidate its next one."""
    for tenant_id in await parts.database.read(evaluations.tenants_waiting):
        held, waiting = await parts.database.read(partial(_standing, tenant_id=tenant_id))
        if held.candidate is None and waiting is not None:
            try:
                await _propose_traced(parts, tenant_id, waiting.traceparent)
            except Fault as fault:
                # The index of one tenant must not hold up the others.
                log.warning("proposal_postponed", reason=fault.reason.value)


def _standing(session: Session, tenant_id: str) -> tuple[releases.Ledger, WaitingAdapterRow | None]:
    return (
        ledger.read_ledger(session, tenant_id),
        evaluations.first_waiting(session, tenant_id),
    )


async def _propose_traced(parts: Parts, tenant_id: str, traceparent: str) -> None:
    context = context_of(traceparent)
    with parts.tracer.start_as_current_span("propose release", context=context):
        index = await parts.serving.index(tenant_id)
        proposed = await parts.bus.write(tenant_id, partial(_propose, parts=parts, index=index))
    if proposed is not None:
        log.info("release_proposed", release=proposed.release_id, epoch=proposed.epoch)


def _propose(unit: UnitOfWork, parts: Parts, index: Index) -> releases.Change | None:
    """None when there is nothing to propose any more."""
    waiting = evaluations.first_waiting(unit.session, unit.tenant_id)
    held = ledger.read_ledger(unit.session, unit.tenant_id, lock=True)
    if waiting is None or held.candidate is not None:
        return None
    release = partial(_release, parts, unit.tenant_id, index)
    if not held.entries:
        held = _adopt_base(unit, held, release(BASE_RELEASE_ID, "", None), parts.now())
    adapter = events.AdapterTrained.FromString(waiting.content)
    changes = releases.propose(held, release_id_of(adapter.adapter))
    change = changes[0]
    candidate = release(change.release_id, change.parent_id, adapter)
    ledger.add_release(unit, candidate, waiting.traceparent)
    evaluation = _evaluation(change, unit.tenant_id, waiting.traceparent, parts.now())
    unit.session.add(evaluation)
    facts = ledger.ChangeFacts(parts.now(), evaluation.evaluation_id)
    ledger.write_changes(unit, held, changes, facts)
    unit.session.delete(waiting)
    return change


def _adopt_base(
    unit: UnitOfWork, held: releases.Ledger, base: events.Release, now: float
) -> releases.Ledger:
    changes = releases.adopt_first(held, BASE_RELEASE_ID)
    ledger.add_release(unit, base)
    ledger.write_changes(unit, held, changes, ledger.ChangeFacts(now))
    return held.after(changes)


def _release(
    parts: Parts,
    tenant_id: str,
    index: Index,
    release_id: str,
    parent_id: str,
    adapter: events.AdapterTrained | None,
) -> events.Release:
    return events.Release(
        release_id=release_id,
        tenant_id=tenant_id,
        parent_release_id=parent_id,
        prompt_version=parts.release.prompt_version,
        adapter=adapter.adapter if adapter else "",
        adapter_uri=adapter.artifact_uri if adapter else "",
        adapter_hash=adapter.artifact_hash if adapter else "",
        guardrail_policy=parts.release.guardrail_policy,
        routing_policy=parts.release.routing_policy,
        embedding_model_version=index.embedding_model_version,
    )


def _evaluation(
    change: releases.Change, tenant_id: str, traceparent: str, now: float
) -> EvaluationRow:
    return EvaluationRow(
        evaluation_id=f"eval_{derived_id(tenant_id, change.release_id, str(change.epoch))}",
        tenant_id=tenant_id,
        candidate_id=change.release_id,
        baseline_id=change.parent_id,
        created_at=now,
        due_at=now,
        traceparent=traceparent,
    )
