"""Losing a race against another transaction, which on a server is an everyday thing."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tidemill.backoff import Backoff
from tidemill.faults import Fault, Reason

P = ParamSpec("P")
T = TypeVar("T")

RIVAL = "rival_transaction"
MOST_LOST = 10
BACKOFF = Backoff(0.005, 0.2)


def rival_won() -> Fault:
    """What the loser raises: nothing of its transaction is left, and another try may win."""
    return Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency=RIVAL)


def is_rival(fault: Fault) -> bool:
    return fault.metadata.get("dependency") == RIVAL


async def after_loss(lost: int) -> None:
    """The wait after the lost-th race; both losers must not come back together."""
    await asyncio.sleep(BACKOFF.delay(lost))


def outlasting_rivals(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Run the work again when its transaction lost, some times. For work whose only lasting effect
    is that one transaction."""

    @wraps(work)
    async def tried(*args: P.args, **kwargs: P.kwargs) -> T:
        for lost in range(1, MOST_LOST + 1):
            try:
                return await work(*args, **kwargs)
            except Fault as fault:
                if not is_rival(fault):
                    raise
            await after_loss(lost)
        return await work(*args, **kwargs)

    return tried
