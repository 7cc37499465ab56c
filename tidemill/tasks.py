"""Periodic work of a service, stopped with it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tidemill.db.turn import Turn
from tidemill.faults import Fault

log = structlog.get_logger()

Work = Callable[[], Awaitable[object]]


class Tasks:
    """Background tasks; a failing turn is logged and the next one comes."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, name: str, seconds: float, work: Work, turn: Turn | None = None) -> None:
        """Run work, rest that many seconds, and again. turn: without it the work is skipped."""
        self._tasks.append(asyncio.create_task(self._loop(name, seconds, work, turn), name=name))

    async def _loop(self, name: str, seconds: float, work: Work, turn: Turn | None) -> None:
        while True:
            try:
                if turn is None or await turn.held():
                    await work()
            except Fault as fault:
                log.warning("task_failed", task=name, reason=fault.reason.value)
            except Exception as error:
                log.error("task_failed", task=name, exc_info=error)
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
