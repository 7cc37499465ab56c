"""Runs a suite against candidate and baseline; a run that is cut off goes on where it was."""

import structlog
from opentelemetry.trace import SpanKind

from services.evaluator.adapters import evaluations, ledger, suites
from services.evaluator.adapters.suites import Suite
from services.evaluator.adapters.tables import EvaluationRow
from services.evaluator.domain.releases import State
from services.evaluator.handlers import asking, deciding
from services.evaluator.handlers.parts import Parts
from tidemill.bus import UnitOfWork
from tidemill.faults import Fault
from tidemill.ids import derived_id
from tidemill.telemetry.tracing import context_of

log = structlog.get_logger()


async def run_next(parts: Parts) -> bool:
    """Works on the evaluation that is due; False when none is."""
    now, longest = parts.now(), parts.run.rerun_seconds
    due = await parts.database.read(lambda session: evaluations.next_due(session, now, longest))
    if due is None:
        return False
    with parts.tracer.start_as_current_span(
        "evaluate release",
        context=context_of(due.traceparent),
        kind=SpanKind.INTERNAL,
        attributes={"tidemill.tenant": due.tenant_id, "tidemill.evaluation": due.evaluation_id},
    ):
        await _run(parts, due)
    return True


async def _run(parts: Parts, due: EvaluationRow) -> None:
    held, suite = await parts.database.read(
        lambda session: (
            ledger.read_ledger(session, due.tenant_id),
            suites.newest_suite(session, due.tenant_id),
        )
    )
    candidate = held.entries.get(due.candidate_id)
    if candidate is None or candidate.state is not State.PROPOSED:
        await deciding.close_without_verdict(parts, due)
    elif suite is not None:
        await _measure(parts, due, suite)
    elif waited(parts, due) >= parts.run.suite_wait_seconds:
        await deciding.reject_without_suite(parts, due)
    else:
        await _postpone(parts, due, runs=0)


def waited(parts: Parts, due: EvaluationRow) -> float:
    return parts.elapsed(f"evaluation {due.evaluation_id}", due.created_at)


async def _measure(parts: Parts, due: EvaluationRow, suite: Suite) -> None:
    last_run = due.runs + 1 >= parts.run.max_runs
    before, missing = "", -1
    try:
        before = (await parts.serving.index(due.tenant_id)).manifest_hash
        pair = measurements_of(due, suite, before)
        missing = await asking.count_missing(parts, due, suite, pair)
        await asking.ask_missing(parts, due, suite, pair, give_up=last_run)
        after = (await parts.serving.index(due.tenant_id)).manifest_hash
    except Fault as fault:
        log.warning("evaluation_postponed", reason=fault.reason.value, runs=due.runs + 1)
        await _after_outage(parts, due, suite, before, missing, last_run=last_run)
        return
    if after != before and not due.afresh:
        await _restart(parts, due, pair)
    else:
        await deciding.decide(parts, due, suite, pair, before)


async def _after_outage(
    parts: Parts, due: EvaluationRow, suite: Suite, before: str, missing: int, *, last_run: bool
) -> None:
    """A run that brought results does not count against the limit of runs."""
    if last_run:
        await deciding.reject_unmeasured(parts, due)
        return
    pair = measurements_of(due, suite, before)
    left = await asking.count_missing(parts, due, suite, pair) if missing >= 0 else missing
    await _postpone(parts, due, runs=0 if left < missing else 1)


def measurements_of(due: EvaluationRow, suite: Suite, manifest_hash: str) -> asking.Measurements:
    """Ids under which results are kept: the same release, suite and index share them, so the
    baseline is not asked again; after a restart they belong to this evaluation alone."""
    owner = due.evaluation_id if due.afresh else manifest_hash
    return asking.Measurements(
        baseline=derived_id(due.tenant_id, due.baseline_id, suite.suite_hash, owner),
        candidate=derived_id(due.tenant_id, due.candidate_id, suite.suite_hash, owner),
    )


async def _restart(parts: Parts, due: EvaluationRow, pair: asking.Measurements) -> None:
    """The index changed while the suite ran, so the two releases saw different documents."""
    now = parts.now()

    def restart(unit: UnitOfWork) -> None:
        row = unit.session.get_one(EvaluationRow, due.evaluation_id)
        row.afresh, row.due_at = True, now
        evaluations.forget_results(unit, [pair.baseline, pair.candidate])

    await parts.bus.write(due.tenant_id, restart)
    log.info("evaluation_restarted", evaluation=due.evaluation_id)


async def _postpone(parts: Parts, due: EvaluationRow, runs: int) -> None:
    due_at = parts.now() + parts.run.rerun_seconds

    def postpone(unit: UnitOfWork) -> None:
        row = unit.session.get_one(EvaluationRow, due.evaluation_id)
        row.runs += runs
        row.due_at = due_at

    await parts.bus.write(due.tenant_id, postpone)
