"""The loop itself: virtual time, processes that die at once, and threads that are none."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from greenlet import greenlet

from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import Process
from tests.simulation.run import bury_all


def run(seed: int, work: Callable[[SimulatedLoop], Coroutine[Any, Any, Any]]) -> Any:
    loop = SimulatedLoop(seed)
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.graveyard.clear()
        loop.close()


def test_a_day_passes_at_once() -> None:
    async def sleep(loop: SimulatedLoop) -> float:
        await asyncio.sleep(86_400)
        return loop.time()

    assert run(1, sleep) == 86_400


def test_a_killed_process_runs_nothing_more() -> None:
    said: list[str] = []

    async def talk() -> None:
        try:
            said.append("alive")
            await asyncio.sleep(10)
            said.append("still alive")
        finally:
            said.append("clean-up")

    async def kill(loop: SimulatedLoop) -> list[str]:
        process = Process("one", "one")
        loop.start(talk(), process)
        await asyncio.sleep(1)
        loop.bury(process)
        await asyncio.sleep(100)
        return list(said)

    assert run(1, kill) == ["alive"]


def test_a_stopped_process_goes_on_where_it_was() -> None:
    async def freeze(loop: SimulatedLoop) -> float:
        process = Process("one", "one")
        task = loop.start(asyncio.sleep(1), process)
        await asyncio.sleep(0.5)
        process.paused = True
        loop.call_later(49.5, setattr, process, "paused", False)
        await task
        return loop.time()

    assert run(1, freeze) == 50


def test_processes_take_turns_by_seed_and_each_keeps_its_own_order() -> None:
    async def mix(loop: SimulatedLoop) -> str:
        said: list[str] = []

        async def count(letter: str) -> None:
            for number in range(4):
                said.append(f"{letter}{number}")
                await asyncio.sleep(0)

        await asyncio.gather(*(loop.start(count(n), Process(n, n)) for n in "ab"))
        return " ".join(said)

    orders = {run(seed, mix) for seed in range(20)}
    assert len(orders) > 5
    for order in orders:
        assert [w for w in order.split() if w[0] == "a"] == ["a0", "a1", "a2", "a3"]


def test_work_of_a_thread_ends_even_when_nobody_waits_for_it() -> None:
    done: list[int] = []

    async def give_up(loop: SimulatedLoop) -> list[int]:
        future = loop.run_in_executor(None, done.append, 1)
        future.cancel()
        await asyncio.sleep(1)
        return done

    assert run(1, give_up) == [1]


@pytest.mark.timeout(20)
def test_the_end_of_a_run_does_not_wait_for_a_greenlet_that_somebody_still_holds() -> None:
    loop, dead = SimulatedLoop(1), greenlet(lambda: None)
    dead.switch()
    loop.greenlets.add(dead)
    bury_all(loop)
    assert loop.is_closed()
