"""One seed: build a mesh, load it, break it, heal it, and ask whether every promise held."""

import asyncio
import gc
import logging
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog

from tests.simulation.boundary import outside_world
from tests.simulation.loop import OutOfSteps, SimulatedLoop
from tests.simulation.world import World, environment

MEMORY = Path("/dev/shm")
"""Files of a run lie in memory where the system has such a place."""


@dataclass(frozen=True)
class Outcome:
    """broken: each invariant that did not hold, with what was seen."""

    seed: int
    digest: str
    virtual_seconds: float
    steps: int
    broken: tuple[str, ...]
    lines: list[str] = field(default_factory=list, repr=False)


MAX_UNWINDING = 20
MAX_ROUNDS = 100
Story = Callable[[World], Awaitable[list[str]]]


def simulate(seed: int, story: Story, names: list[str], *, keep_lines: bool = False) -> Outcome:
    """Run one seed; the same seed and the same code give the same outcome and digest."""
    freeze_once()
    home = Path(tempfile.mkdtemp(prefix="tidemill-", dir=MEMORY if MEMORY.is_dir() else None))
    loop = SimulatedLoop(seed, keep_lines=keep_lines)
    try:
        with quiet(), environment(), outside_world(loop, seed):
            broken = told(loop, seed, story, home, names)
            return Outcome(seed, loop.digest, loop.time(), loop.steps, tuple(broken), loop.lines)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@lru_cache(maxsize=1)
def freeze_once() -> None:
    """What is imported stays: the collector need not look at it after every run."""
    gc.collect()
    gc.freeze()


def told(loop: SimulatedLoop, seed: int, story: Story, home: Path, names: list[str]) -> list[str]:
    async def whole() -> list[str]:
        world = World(loop, seed, home, names)
        try:
            return [*await story(world), *loop.crashes]
        finally:
            await world.end()

    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(whole())
    except OutOfSteps:
        return ["stuck: the run spins without an end"]
    finally:
        bury_all(loop)


def bury_all(loop: SimulatedLoop) -> None:
    """Free what the killed processes left; whatever Python says meanwhile is about the dead."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clear(loop)
    finally:
        sys.unraisablehook = hook


def clear(loop: SimulatedLoop) -> None:
    asyncio.set_event_loop(None)
    loop.set_exception_handler(lambda *_: None)
    loop.graveyard.clear()
    loop.broker = loop.network = loop.disk = loop.stores = loop.strike = None
    loop._queues.clear()
    for task in asyncio.all_tasks(loop):
        unwind(task.get_coro())
    loop.close()
    for _ in range(MAX_ROUNDS):
        # A coroutine that is freed may begin to clean up, and hang in a statement once more.
        if not gc.collect() and not any(hangs(greenlet) for greenlet in loop.greenlets):
            return
        end_all(loop.greenlets)


def hangs(greenlet: Any) -> bool:
    """One that ended may stay for long: the error that it died of is held by whoever caught it."""
    return bool(greenlet) and not greenlet.dead


def unwind(coroutine: Any) -> None:
    """Close it; where its clean-up waits for something, once more from there."""
    for _ in range(MAX_UNWINDING):
        try:
            coroutine.close()
        except BaseException:  # noqa: S112 - whatever the dead say
            continue
        return


def end_all(greenlets: "weakref.WeakSet[Any]") -> None:
    """One that is left hanging in a statement is never freed: the collector cannot see into it."""
    for greenlet in list(greenlets):
        for _ in range(MAX_UNWINDING):
            if not hangs(greenlet):
                break
            with suppress(BaseException):
                left = greenlet.throw()
                if asyncio.iscoroutine(left):
                    left.close()


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, and no collector at a moment of its own choice."""
    before, config = logging.root.manager.disable, structlog.get_config()
    logging.disable(logging.CRITICAL)
    structlog.configure(
        processors=[drop],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**config)
        logging.disable(before)
        if collecting:
            gc.enable()


def drop(*_: object) -> None:
    raise structlog.DropEvent
