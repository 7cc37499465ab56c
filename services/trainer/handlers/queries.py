"""What the trainer tells about its runs, its trigger and the lineage of adapters."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.trainer.adapters import runs_store
from services.trainer.adapters import signals_store as signals
from services.trainer.adapters.store import FeedbackState, LineageRow, RunRow
from services.trainer.domain.dataset import Limits
from services.trainer.handlers.datasets import harvest
from tidemill.db import Database
from tidemill.faults import Fault, Reason


@dataclass(frozen=True)
class RunPage:
    """Runs, newest first; `next` continues after them, None at the end."""

    runs: Sequence[RunRow]
    next: int | None


@dataclass(frozen=True)
class TriggerState:
    """pending: usable feedback since the last run. skipped: counts by reason."""

    pending: int
    waiting: int
    training: bool
    skipped: dict[str, int]


async def list_runs(database: Database, tenant_id: str, before: int | None, size: int) -> RunPage:
    rows = await database.read(
        lambda session: runs_store.page(session, tenant_id, before, size + 1)
    )
    more = len(rows) > size
    return RunPage(rows[:size], rows[size - 1].number if more else None)


async def trigger_state(database: Database, tenant_id: str, limits: Limits) -> TriggerState:
    found, outcomes, training = await database.read(
        lambda session: (
            harvest(session, tenant_id, limits),
            signals.outcomes(session, tenant_id),
            runs_store.is_training(session, tenant_id),
        )
    )
    skipped = {
        reason: count
        for (state, reason), count in outcomes.items()
        if state == FeedbackState.SKIPPED
    }
    waiting = outcomes.get((FeedbackState.WAITING, ""), 0)
    return TriggerState(found.fresh, waiting, training, skipped)


async def lineage_of(
    database: Database, tenant_id: str, adapter: str
) -> tuple[RunRow, Sequence[LineageRow]]:
    """The run behind an adapter and the feedback behind the run; Fault(NOT_FOUND)."""

    def find(session: Session) -> tuple[RunRow, Sequence[LineageRow]]:
        run = runs_store.run_of_adapter(session, tenant_id, adapter)
        if run is None:
            raise Fault(Reason.NOT_FOUND, resource="adapter")
        return run, runs_store.lineage(session, run.run_id)

    return await database.read(find)
