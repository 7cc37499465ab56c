"""Work that takes longer than a delivery may, and housekeeping."""

from functools import partial

from services.monitor.handlers import counting, drifting
from services.monitor.handlers.parts import Parts
from tidemill.tasks import Tasks

HOUR_SECONDS = 3_600.0


def start(parts: Parts, tasks: Tasks, poll_seconds: float) -> None:
    """Each task rests between its turns and never runs twice at a time, here or elsewhere."""
    turn = parts.database.turn("schedule")
    tasks.every("watch drift", poll_seconds, partial(drifting.watch_drift, parts), turn)
    tasks.every("forget answers", HOUR_SECONDS, partial(counting.forget_old, parts), turn)
