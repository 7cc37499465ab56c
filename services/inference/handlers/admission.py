"""A bounded number of answers at a time, and a bounded queue before them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidemill.faults import Fault, Reason

RETRY_AFTER_MS = 1_000


class Admission:
    """Turns for answers: `concurrent` at work, at most `waiting` before them."""

    def __init__(self, concurrent: int, waiting: int, wait_seconds: float) -> None:
        self._turns = asyncio.Semaphore(concurrent)
        self._places = concurrent + waiting
        self._wait_seconds = wait_seconds
        self.inside = 0

    @asynccontextmanager
    async def turn(self, timeout: float) -> AsyncIterator[None]:
        """Waits for a turn, at most `timeout` seconds; raises Fault(OVERLOADED) without one."""
        if self.inside >= self._places:
            raise _overloaded()
        self.inside += 1
        try:
            await self._acquire(min(timeout, self._wait_seconds))
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self.inside -= 1

    async def _acquire(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._turns.acquire()
        except TimeoutError:
            raise _overloaded() from None


def _overloaded() -> Fault:
    return Fault(Reason.OVERLOADED, retry_after_ms=str(RETRY_AFTER_MS))
