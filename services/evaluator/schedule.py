"""Work that takes longer than a delivery may: proposals, suites, canaries."""

from functools import partial

from services.evaluator.handlers import canarying, evaluating, proposing
from services.evaluator.handlers.parts import Parts
from tidemill.tasks import Tasks


def start(parts: Parts, tasks: Tasks) -> None:
    """Each task rests between its turns and never runs twice at a time, here or elsewhere."""
    turn = parts.database.turn("schedule")
    seconds = parts.run.poll_seconds
    tasks.every("propose", seconds, partial(proposing.propose_waiting, parts), turn)
    tasks.every("evaluate", seconds, partial(evaluating.run_next, parts), turn)
    tasks.every("watch canaries", seconds, partial(canarying.watch_canaries, parts), turn)
