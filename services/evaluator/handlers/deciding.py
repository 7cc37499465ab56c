"""Turns results into a verdict, and the verdict into the candidate's next state."""

import asyncio

import structlog

from services.evaluator.adapters import evaluations, ledger
from services.evaluator.adapters.suites import Suite
from services.evaluator.adapters.tables import EvaluationRow
from services.evaluator.domain import releases
from services.evaluator.domain.futility import pairs_at_best
from services.evaluator.domain.gate import Decision, alpha_of_look, judge
from services.evaluator.domain.results import Pair
from services.evaluator.domain.verdicts import Comparands, verdict_event
from services.evaluator.handlers.asking import Measurements
from services.evaluator.handlers.parts import Parts
from tidemill import topics
from tidemill.bus import UnitOfWork
from tidemill.ids import derived_id

log = structlog.get_logger()

SUITE_MISSING = "SUITE_MISSING"
NOT_MEASURED = "NOT_MEASURED"


async def decide(
    parts: Parts, due: EvaluationRow, suite: Suite, pair: Measurements, manifest_hash: str
) -> None:
    """Judges, then in one transaction: the verdict, the ledger's change and both events."""
    pairs = await _pairs(parts, suite, pair)
    comparands = await _comparands(parts, due, suite, manifest_hash)
    alpha = alpha_of_look(parts.gate.alpha, comparands.look)
    decision = await asyncio.to_thread(judge, pairs, parts.gate, alpha, comparands.seed)

    def record(unit: UnitOfWork) -> bool:
        held = ledger.read_ledger(unit.session, due.tenant_id, lock=True)
        row = unit.session.get_one(EvaluationRow, due.evaluation_id)
        if row.done or held.entries[row.candidate_id].state is not releases.State.PROPOSED:
            row.done = True
            return False
        _record(unit, parts, row, comparands, pairs, decision)
        _move(unit, parts, held, row, decision)
        return True

    if await parts.bus.write(due.tenant_id, record):
        log.info("release_judged", release=due.candidate_id, reasons=list(decision.reasons))


async def _pairs(parts: Parts, suite: Suite, pair: Measurements) -> list[Pair]:
    """What was not asked is assumed, and the gate never passes an assumption."""
    baseline, candidate = await parts.database.read(
        lambda session: (
            evaluations.read_results(session, pair.baseline),
            evaluations.read_results(session, pair.candidate),
        )
    )
    return pairs_at_best(suite.samples, baseline, candidate)


async def _comparands(
    parts: Parts, due: EvaluationRow, suite: Suite, manifest_hash: str
) -> Comparands:
    looks = await parts.database.read(
        lambda session: evaluations.count_looks(
            session, suite.suite_hash, due.baseline_id, due.tenant_id
        )
    )
    return Comparands(
        tenant_id=due.tenant_id,
        evaluation_id=due.evaluation_id,
        candidate_release_id=due.candidate_id,
        baseline_release_id=due.baseline_id,
        suite_id=suite.suite_id,
        suite_hash=suite.suite_hash,
        index_manifest_hash=manifest_hash,
        look=looks + 1,
    )


def _record(
    unit: UnitOfWork,
    parts: Parts,
    row: EvaluationRow,
    comparands: Comparands,
    pairs: list[Pair],
    decision: Decision,
) -> None:
    event = verdict_event(comparands, pairs, decision)
    event.completed_time.CopyFrom(ledger.timestamp(parts.now()))
    row.done, row.suite_hash = True, comparands.suite_hash
    row.content = event.SerializeToString(deterministic=True)
    unit.publish(
        topics.EVALUATIONS_COMPLETED,
        row.evaluation_id,
        event,
        event_id=derived_id("evaluation", row.tenant_id, row.evaluation_id),
    )


def _move(
    unit: UnitOfWork, parts: Parts, held: releases.Ledger, row: EvaluationRow, decision: Decision
) -> None:
    if decision.passed:
        changes = releases.start_canary(held, row.candidate_id)
    else:
        changes = releases.reject(held, row.candidate_id, decision.reasons)
    facts = ledger.ChangeFacts(
        parts.now(), row.evaluation_id, parts.canary.share, refusal_gap(decision)
    )
    ledger.write_changes(unit, held, changes, facts)


def refusal_gap(decision: Decision) -> float:
    """How much more often than the baseline the candidate refused over the whole suite."""
    found = next(entry for entry in decision.comparisons if entry.metric == "refused")
    return found.candidate - found.baseline


async def reject_without_suite(parts: Parts, due: EvaluationRow) -> None:
    """Nothing goes live without its gate: without a suite the candidate ends."""
    await _end(parts, due, SUITE_MISSING)


async def reject_unmeasured(parts: Parts, due: EvaluationRow) -> None:
    """The index or the serving path was down for every run."""
    await _end(parts, due, NOT_MEASURED)


async def _end(parts: Parts, due: EvaluationRow, reason: str) -> None:
    now = parts.now()

    def end(unit: UnitOfWork) -> None:
        held = ledger.read_ledger(unit.session, due.tenant_id, lock=True)
        row = unit.session.get_one(EvaluationRow, due.evaluation_id)
        row.done = True
        if held.entries[row.candidate_id].state is releases.State.PROPOSED:
            changes = releases.reject(held, row.candidate_id, (reason,))
            ledger.write_changes(unit, held, changes, ledger.ChangeFacts(now))

    await parts.bus.write(due.tenant_id, end)


async def close_without_verdict(parts: Parts, due: EvaluationRow) -> None:
    """The candidate was taken out of the race while its suite ran."""

    def close(unit: UnitOfWork) -> None:
        unit.session.get_one(EvaluationRow, due.evaluation_id).done = True

    await parts.bus.write(due.tenant_id, close)
