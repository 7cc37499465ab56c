"""Tells work that waits that there may be something to do, so that it need not ask all the time.

Only within one process: rows on a server are changed by a service's other processes too, and their
wakes do not come here. So what such rows decide is still looked at every few seconds (longest).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from tidemill.db import Database

LONGEST_SECONDS = 60.0
"""A wake that was missed costs no more than that."""

M = TypeVar("M")
D = TypeVar("D")


class Wake:
    """Set by whoever changed something, after its commit; waited for by any number of tasks."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Event] = []

    def set(self) -> None:
        """Every waiting task looks, and one that is looking looks again."""
        for event in self._waiting:
            event.set()

    def listen(self) -> asyncio.Event:
        """A task's own event: it clears it before each look."""
        event = asyncio.Event()
        self._waiting.append(event)
        return event


def waking(
    wake: Wake, handler: Callable[[M, D], Awaitable[None]]
) -> Callable[[M, D], Awaitable[None]]:
    """A handler of events that wakes once it has ended, which is after its commit."""

    async def handle(message: M, delivery: D) -> None:
        await handler(message, delivery)
        wake.set()

    return handle


def longest(database: Database, poll_seconds: float) -> float:
    """How long work on these rows may sleep unless it is woken."""
    return LONGEST_SECONDS if database.is_file else poll_seconds


async def woken(event: asyncio.Event, seconds: float) -> bool:
    """Waits for the event, and no longer than that."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
