"""What the retriever does by the clock."""

from services.retriever.handlers.upkeep import Upkeep
from tidemill.tasks import Tasks

RECONCILE_RETRY_SECONDS = 1.0


def schedule(tasks: Tasks, upkeep: Upkeep, *, sweep_seconds: float) -> None:
    """Reconciles at once, and again every second while the vector store is away; then sweeps."""
    tasks.every("reconcile", RECONCILE_RETRY_SECONDS, upkeep.reconcile_once)
    tasks.every("sweep", sweep_seconds, upkeep.sweep)
