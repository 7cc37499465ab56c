"""Periodic work of a service, stopped with it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from tidemill.db.turn import Turn
from tidemill.faults import Fault
from tidemill.wake import Wake, woken

log = structlog.get_logger()

Work = Callable[[], Awaitable[object]]
Look = Callable[[], Awaitable[bool]]
"""Does what there is to do. True while something is open that time alone makes due."""


class Tasks:
    """Background tasks; a failing turn is logged and the next one comes."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, name: str, seconds: float, work: Work, turn: Turn | None = None) -> None:
        """Run work, rest that many seconds, and again. turn: without it the work is skipped."""
        self._start(name, self._loop(name, seconds, work, turn))

    def on(
        self,
        name: str,
        wake: Wake,
        look: Look,
        *,
        rest: float,
        at_most: float,
        turn: Turn | None = None,
    ) -> None:
        """Look at once, whenever woken, and every at_most seconds as a safety net; after a look
        that left something open, or failed, again after rest seconds, and never sooner."""
        self._start(name, self._watch(name, wake.listen(), look, rest, at_most, turn))

    def _start(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(loop, name=name))

    async def _loop(self, name: str, seconds: float, work: Work, turn: Turn | None) -> None:
        while True:
            await self._run(name, work, turn)
            await asyncio.sleep(seconds)

    async def _watch(
        self,
        name: str,
        event: asyncio.Event,
        look: Look,
        rest: float,
        at_most: float,
        turn: Turn | None,
    ) -> None:
        while True:
            event.clear()
            left_open = await self._run(name, look, turn)
            await asyncio.sleep(rest)
            if not left_open:
                await woken(event, at_most - rest)

    async def _run(self, name: str, work: Work, turn: Turn | None) -> object:
        """What the work returned; True when it failed, False without the turn."""
        try:
            return await work() if turn is None or await turn.held() else False
        except Fault as fault:
            log.warning("task_failed", task=name, reason=fault.reason.value)
        except Exception as error:
            log.error("task_failed", task=name, exc_info=error)
        return True

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
