"""Background work: told instead of asking, and asking only where nobody tells."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tidemill.faults import Fault, Reason
from tidemill.tasks import Tasks
from tidemill.wake import Wake, waking

REST = 0.05
NEVER = 1_000.0


class Looks:
    """Work that counts how often it was done, and waits until it was."""

    def __init__(self, left_open: bool = False) -> None:
        self.left_open = left_open
        self.times: list[float] = []
        self.failing = 0
        self._done = asyncio.Condition()

    async def look(self) -> bool:
        async with self._done:
            self.times.append(asyncio.get_running_loop().time())
            self._done.notify_all()
        if len(self.times) <= self.failing:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE)
        return self.left_open

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(10), self._done:
            await self._done.wait_for(lambda: len(self.times) >= count)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks()
    yield tasks
    await tasks.close()


async def rounds(count: int) -> None:
    """Time in which work that asks by the clock would be done again."""
    await asyncio.sleep(count * REST)


async def test_work_is_done_at_the_start_and_then_only_when_woken(tasks: Tasks) -> None:
    looks, wake = Looks(), Wake()
    tasks.on("work", wake, looks.look, rest=REST, at_most=NEVER)
    await looks.reach(1)
    await rounds(5)
    assert len(looks.times) == 1
    wake.set()
    await looks.reach(2)


async def test_a_wake_during_the_work_is_not_lost(tasks: Tasks) -> None:
    looks, wake = Looks(), Wake()

    async def look() -> bool:
        if not looks.times:
            wake.set()
        return await looks.look()

    tasks.on("work", wake, look, rest=REST, at_most=NEVER)
    await looks.reach(2)


async def test_many_wakes_are_one_look_a_rest(tasks: Tasks) -> None:
    looks, wake = Looks(), Wake()
    tasks.on("work", wake, looks.look, rest=REST, at_most=NEVER)
    await looks.reach(1)
    for _ in range(50):
        wake.set()
        await asyncio.sleep(REST / 10)
    pauses = [after - before for before, after in zip(looks.times, looks.times[1:], strict=False)]
    assert pauses
    assert min(pauses) >= REST * 0.9


async def test_what_is_left_open_is_looked_at_again_without_a_wake(tasks: Tasks) -> None:
    looks = Looks(left_open=True)
    tasks.on("work", Wake(), looks.look, rest=REST, at_most=NEVER)
    await looks.reach(4)
    looks.left_open = False
    await rounds(3)
    count = len(looks.times)
    await rounds(5)
    assert len(looks.times) == count


async def test_what_failed_is_tried_again_without_a_wake(tasks: Tasks) -> None:
    looks = Looks()
    looks.failing = 2
    tasks.on("work", Wake(), looks.look, rest=REST, at_most=NEVER)
    await looks.reach(3)


async def test_a_wake_that_never_comes_costs_no_more_than_at_most(tasks: Tasks) -> None:
    looks = Looks()
    tasks.on("work", Wake(), looks.look, rest=REST, at_most=4 * REST)
    await looks.reach(3)


async def test_a_handler_wakes_all_who_wait_once_it_has_ended(tasks: Tasks) -> None:
    first, second, wake, handled = Looks(), Looks(), Wake(), list[str]()
    for looks in (first, second):
        tasks.on("work", wake, looks.look, rest=REST, at_most=NEVER)
        await looks.reach(1)

    async def handle(message: str, delivery: object) -> None:
        if message == "broken":
            raise Fault(Reason.SCHEMA_INVALID)
        handled.append(message)

    told = waking(wake, handle)
    with pytest.raises(Fault):
        await told("broken", None)
    await rounds(3)
    assert len(first.times) == 1
    await told("event", None)
    assert handled == ["event"]
    await first.reach(2)
    await second.reach(2)
