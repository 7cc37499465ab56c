"""What callers ask of the evaluator: suites, releases, verdicts and rollbacks."""

from collections.abc import Sequence
from functools import partial

from services.evaluator.adapters import evaluations, ledger, suites
from services.evaluator.adapters.tables import ReleaseRow
from services.evaluator.domain import releases
from services.evaluator.domain.suites import Sample, SuiteInvalid, check_suite
from services.evaluator.handlers.parts import Parts
from tidemill import topics
from tidemill.api.events import v1 as events
from tidemill.bus import UnitOfWork
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason

DEFAULT_PAGE = 20
MAX_PAGE = 100
NEWEST = 2**62


@outlasting_rivals
async def create_suite(
    parts: Parts, tenant_id: str, suite_id: str, samples: Sequence[Sample]
) -> str:
    """Stores the suite; returns its hash. Faults: INVALID_ARGUMENT with the field."""
    try:
        check_suite(suite_id, samples)
    except SuiteInvalid as broken:
        raise Fault(Reason.INVALID_ARGUMENT, field=broken.field) from None
    work = partial(_store_suite, suite_id=suite_id, samples=samples, now=parts.now())
    return await parts.bus.write(tenant_id, work)


def _store_suite(unit: UnitOfWork, suite_id: str, samples: Sequence[Sample], now: float) -> str:
    digest = suites.store_suite(unit, suite_id, samples, now)
    event = suites.stored_event(unit.tenant_id, suite_id, digest, samples)
    event.stored_time.CopyFrom(ledger.timestamp(now))
    unit.publish(topics.SUITES_STORED, "suites", event)
    return digest


async def list_releases(
    parts: Parts, tenant_id: str, page_size: int, page_token: str
) -> tuple[list[ReleaseRow], str]:
    """A page, newest first, and the token of the next one, empty on the last."""
    size = min(page_size or DEFAULT_PAGE, MAX_PAGE)
    if size < 0 or not (page_token.isdecimal() or page_token == ""):
        raise Fault(Reason.INVALID_ARGUMENT, field="page_token" if size >= 0 else "page_size")
    before = int(page_token[:18]) if page_token else NEWEST
    rows = await parts.database.read(
        lambda session: ledger.list_releases(session, tenant_id, before, size + 1)
    )
    page = rows[:size]
    return page, str(page[-1].first_epoch) if len(rows) > size else ""


async def get_evaluation(
    parts: Parts, tenant_id: str, evaluation_id: str
) -> events.EvaluationCompleted:
    """Faults: NOT_FOUND, also while the suite is still running."""
    found = await parts.database.read(
        lambda session: evaluations.find_evaluation(session, tenant_id, evaluation_id)
    )
    if found is None:
        raise Fault(Reason.NOT_FOUND, resource="evaluation")
    return found


@outlasting_rivals
async def roll_back(parts: Parts, tenant_id: str, release_id: str) -> ReleaseRow:
    """Needs nothing but the ledger. Faults: RELEASE_NOT_FOUND, FAILED_PRECONDITION."""
    work = partial(_roll_back, release_id=release_id, now=parts.now())
    return await parts.bus.write(tenant_id, work)


def _roll_back(unit: UnitOfWork, release_id: str, now: float) -> ReleaseRow:
    held = ledger.read_ledger(unit.session, unit.tenant_id, lock=True)
    if release_id not in held.entries:
        raise Fault(Reason.RELEASE_NOT_FOUND)
    try:
        changes = releases.roll_back(held, release_id, (releases.REQUESTED,))
    except releases.TransitionRefused as refused:
        raise Fault(Reason.FAILED_PRECONDITION, problem=refused.reason) from None
    ledger.write_changes(unit, held, changes, ledger.ChangeFacts(now))
    return ledger.get_release(unit.session, unit.tenant_id, release_id)
