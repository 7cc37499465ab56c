"""Work that takes longer than a delivery may: proposals, suites, canaries."""

from collections.abc import Awaitable, Callable
from functools import partial

from services.evaluator.adapters import evaluations
from services.evaluator.handlers import canarying, evaluating, proposing
from services.evaluator.handlers.parts import Parts
from tidemill.tasks import Tasks
from tidemill.wake import Wake, longest


def start(parts: Parts, tasks: Tasks, adapters: Wake) -> None:
    """Each task rests between its turns and never runs twice at a time, here or elsewhere.

    adapters: set when a trained one came, which is how all of this work begins. While any is under
    way, every task looks again and again: what one ends is another's beginning.
    """
    turn, seconds = parts.database.turn("schedule"), parts.run.poll_seconds
    at_most = longest(parts.database, seconds)
    for name, work in (
        ("propose", proposing.propose_waiting),
        ("evaluate", evaluating.run_next),
        ("watch canaries", canarying.watch_canaries),
    ):
        look = partial(work_and_tell, parts, work)
        tasks.on(name, adapters, look, rest=seconds, at_most=at_most, turn=turn)


async def work_and_tell(parts: Parts, work: Callable[[Parts], Awaitable[object]]) -> bool:
    """Whether any adapter, candidate or canary is under way."""
    await work(parts)
    return await parts.database.read(evaluations.under_way)
