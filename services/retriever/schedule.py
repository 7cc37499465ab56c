"""What the retriever does by the clock."""

from services.retriever.handlers.upkeep import Upkeep
from tidemill.tasks import Tasks
from tidemill.wake import LONGEST_SECONDS, Wake

RECONCILE_RETRY_SECONDS = 1.0


def schedule(tasks: Tasks, upkeep: Upkeep, *, sweep_seconds: float) -> None:
    """Reconciles at once, and again every second while the vector store is away; then sweeps."""
    rest, at_most = RECONCILE_RETRY_SECONDS, LONGEST_SECONDS
    tasks.on("reconcile", Wake(), upkeep.reconcile_once, rest=rest, at_most=at_most)
    tasks.every("sweep", sweep_seconds, upkeep.sweep)
