"""Tests the latest questions of each tenant against its first ones."""

import asyncio
from functools import partial

import structlog

from services.monitor.adapters import alerts, questions
from services.monitor.adapters.questions import DriftCase
from services.monitor.domain.drift import DriftFinding, find_drift, make_reference
from services.monitor.handlers.parts import Parts
from services.monitor.settings import DriftRules
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork

log = structlog.get_logger()

QUESTION_DRIFT = "QUESTION_DRIFT"


async def watch_drift(parts: Parts) -> bool:
    """One test for each tenant that is due and has a permit. False: what is left needs answers or
    a permit, and neither comes soon."""
    due = partial(questions.cases_due, rules=parts.drift, now=parts.now())
    for case in await parts.database.read(due):
        finding = await asyncio.to_thread(examine, case, parts.drift)
        await _tell(parts, case, finding)
    return False


def examine(case: DriftCase, rules: DriftRules) -> DriftFinding:
    """The test itself, some milliseconds to some tenths of a second of computing."""
    reference = make_reference(case.reference, rules.window, rules.min_effect)
    return find_drift(reference, case.window, rules.alpha, rules.permutations, seed=case.seen)


async def _tell(parts: Parts, case: DriftCase, finding: DriftFinding) -> None:
    work = partial(_keep, parts=parts, case=case, finding=finding)
    raised = await parts.bus.write(case.tenant_id, work)
    parts.figures.drift(case.tenant_id, finding.effect, finding.p_value)
    if raised:
        parts.figures.alert(case.tenant_id, QUESTION_DRIFT)
        log.info("drift_found", p_value=finding.p_value, effect=finding.effect)


def _keep(unit: UnitOfWork, parts: Parts, case: DriftCase, finding: DriftFinding) -> bool:
    """Whether an alert was raised."""
    permits = case.permits.refilled(parts.drift, parts.now()).spent()
    before = questions.keep_test(unit, case, permits, finding.drifted, parts.drift)
    if not finding.drifted or before is not False:
        return False
    return alerts.raise_alert(unit, _alert(case, finding, parts.drift), parts.now())


def _alert(case: DriftCase, finding: DriftFinding, rules: DriftRules) -> alerts.Alert:
    return alerts.Alert(
        kind=events.ALERT_KIND_DRIFT,
        reason=QUESTION_DRIFT,
        measured=finding.p_value,
        limit=rules.alpha,
        unit="p_value",
        window_start=case.window_start,
        window_end=case.window_end,
        occasion=str(case.seen),
    )
