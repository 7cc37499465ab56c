"""A trained adapter waits for its turn, then becomes the tenant's candidate."""

from functools import partial

import structlog

from services.evaluator.adapters import evaluations, ledger
from services.evaluator.adapters.serving import Index
from services.evaluator.adapters.tables import EvaluationRow, WaitingAdapterRow
from services.evaluator.domain import releases
from services.evaluator.handlers.parts import Parts
from tidemill.api.events import v1 as events
from tidemill.bus import Delivery, Unit
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
    key = (delivery.tenant_id, message.adapter)
    async with delivery.apply() as unit:
        held = await ledger.read_ledger(unit.session, delivery.tenant_id)
        waits = await unit.session.get(WaitingAdapterRow, key) is not None
        if not waits and release_id_of(message.adapter) not in held.entries:
            unit.session.add(
                WaitingAdapterRow(
                    tenant_id=delivery.tenant_id,
                    adapter=message.adapter,
                    content=message.SerializeToString(deterministic=True),
                    received_at=parts.now(),
                    traceparent=delivery.traceparent,
                )
            )


def release_id_of(adapter: str) -> str:
    """Adapter names are immutable, so a release that brings one has its name."""
    return f"rel_{adapter}"


async def propose_waiting(parts: Parts) -> None:
    """Gives every tenant without a candidate its next one."""
    for tenant_id in await evaluations.tenants_waiting(parts.database):
        async with parts.database.session() as session:
            held = await ledger.read_ledger(session, tenant_id)
            waiting = await evaluations.first_waiting(session, tenant_id)
        if held.candidate is None and waiting is not None:
            try:
                await _propose_traced(parts, tenant_id, waiting.traceparent)
            except Fault as fault:
                # The index of one tenant must not hold up the others.
                log.warning("proposal_postponed", reason=fault.reason.value)


async def _propose_traced(parts: Parts, tenant_id: str, traceparent: str) -> None:
    context = context_of(traceparent)
    with parts.tracer.start_as_current_span("propose release", context=context):
        index = await parts.serving.index(tenant_id)
        async with parts.bus.unit(tenant_id) as unit:
            await _propose(unit, parts, index)


async def _propose(unit: Unit, parts: Parts, index: Index) -> None:
    waiting = await evaluations.first_waiting(unit.session, unit.tenant_id)
    held = await ledger.read_ledger(unit.session, unit.tenant_id, lock=True)
    if waiting is None or held.candidate is not None:
        return
    release = partial(_release, parts, unit.tenant_id, index)
    if not held.entries:
        held = await _adopt_base(unit, held, release(BASE_RELEASE_ID, "", None), parts.now())
    adapter = events.AdapterTrained.FromString(waiting.content)
    changes = releases.propose(held, release_id_of(adapter.adapter))
    change = changes[0]
    candidate = release(change.release_id, change.parent_id, adapter)
    await ledger.add_release(unit, candidate, waiting.traceparent)
    evaluation = _evaluation(change, unit.tenant_id, waiting.traceparent, parts.now())
    unit.session.add(evaluation)
    facts = ledger.ChangeFacts(parts.now(), evaluation.evaluation_id)
    await ledger.write_changes(unit, held, changes, facts)
    await unit.session.delete(waiting)
    log.info("release_proposed", release=change.release_id, epoch=change.epoch)


async def _adopt_base(
    unit: Unit, held: releases.Ledger, base: events.Release, now: float
) -> releases.Ledger:
    changes = releases.adopt_first(held, BASE_RELEASE_ID)
    await ledger.add_release(unit, base)
    await ledger.write_changes(unit, held, changes, ledger.ChangeFacts(now))
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
