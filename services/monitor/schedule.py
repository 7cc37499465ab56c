"""Work that takes longer than a delivery may, and housekeeping."""

from functools import partial

from services.monitor.handlers import counting, drifting
from services.monitor.handlers.parts import Parts
from tidemill.tasks import Tasks
from tidemill.wake import Wake, longest

HOUR_SECONDS = 3_600.0


def start(parts: Parts, tasks: Tasks, poll_seconds: float, answers: Wake) -> None:
    """Each task rests between its turns and never runs twice at a time, here or elsewhere.

    answers: set when one was counted, which alone makes a test due; only the permits of a tenant
    that has used them up come with time, some an hour.
    """
    turn, at_most = parts.database.turn("schedule"), longest(parts.database, poll_seconds)
    watch = partial(drifting.watch_drift, parts)
    tasks.on("watch drift", answers, watch, rest=poll_seconds, at_most=at_most, turn=turn)
    tasks.every("forget answers", HOUR_SECONDS, partial(counting.forget_old, parts), turn)
