"""An event loop with a virtual clock and no sockets; a seed decides which process moves next.

Within a process callbacks run in their order, as asyncio promises them. Between processes any
order may happen in reality, so the seed picks one.
"""

import asyncio
import heapq
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from random import Random
from typing import Any

from tests.simulation.process import CURRENT, WORLD, Process

EPOCH = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
MAX_STEPS = 3_000_000


@dataclass
class Faults:
    """Shares of calls that fail in a way of their own; all zero once a run heals."""

    lost_reply: float = 0.0
    """The work is done and the caller hears of an error."""
    refused: float = 0.0
    """The work is not done and the caller hears of an error."""
    stalled: float = 0.0
    """The work is done long after the caller stopped waiting."""
    expired: float = 0.0
    """A producer gives up on what it never sent."""

    def heal(self) -> None:
        self.lost_reply = self.refused = self.stalled = self.expired = 0.0


class Died(BaseException):
    """The process of a database thread was killed at this point."""


class OutOfSteps(Exception):
    """The run spins without an end in sight."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Seconds pass only when nobody can run."""

    def __init__(self, seed: object, *, keep_lines: bool = False) -> None:
        super().__init__()
        self.scheduling = Random(f"{seed}/schedule")
        self.latency = Random(f"{seed}/latency")
        self.steps = 0
        self.lines: list[str] = []
        self._now = 0.0
        self._queues: dict[Process, deque[asyncio.Handle]] = {}
        self._digest = blake2b(digest_size=16)
        self._keep_lines = keep_lines
        # What a killed process left behind: kept, so that nothing of it runs when it is freed.
        self.graveyard: list[object] = []
        self.crashes: list[str] = []
        # SQLAlchemy's way to wait inside a plain function; ended by hand at the end of a run.
        self.greenlets: weakref.WeakSet[Any] = weakref.WeakSet()
        # The simulated parts that code running here meets; the world sets them.
        self.broker: Any = None
        self.disk: Any = None
        self.network: Any = None
        self.stores: Any = None
        self.faults = Faults()
        # Told of every point that is reached; True when the process was killed there.
        self.strike: Callable[[Process, str], bool] | None = None
        self.set_exception_handler(self._note_failure)

    # --- time

    def time(self) -> float:
        return self._now

    def wall(self) -> float:
        """Seconds since the epoch on every process's clock."""
        return EPOCH + self._now

    # --- what happened

    def trace(self, *words: object) -> None:
        """One event of the run; all of them together make its hash."""
        line = f"{self._now:11.4f} {self.steps:7d} {CURRENT.get().name:13s} " + " ".join(
            str(word) for word in words
        )
        self._digest.update(line.encode())
        if self._keep_lines:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def _note_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.trace("loop", context.get("message"), repr(context.get("exception")))

    # --- running

    def _run_once(self) -> None:
        self._sort_ready()
        runnable = [p for p, queue in self._queues.items() if queue and not p.paused]
        if not runnable:
            self._advance()
            return
        process = runnable[0] if len(runnable) == 1 else self.scheduling.choice(runnable)
        handle = self._queues[process].popleft()
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise OutOfSteps
        if not handle._cancelled:
            handle._run()

    def _sort_ready(self) -> None:
        while self._ready:
            self._enqueue(self._ready.popleft())

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(CURRENT, WORLD)
        if not process.alive:
            self.graveyard.append(handle)
        elif process in self._queues:
            self._queues[process].append(handle)
        else:
            self._queues[process] = deque([handle])

    def _advance(self) -> None:
        """To the next timer of anybody alive."""
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._scheduled:
            raise RuntimeError("nothing is left to happen")
        self._now = max(self._now, self._scheduled[0]._when)
        while self._scheduled and self._scheduled[0]._when <= self._now:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._enqueue(timer)

    def bury(self, process: Process) -> None:
        """A killed process never runs again, not even its finally blocks."""
        process.die()
        self.graveyard.extend(self._queues.pop(process, ()))
        self.graveyard.extend(t for t in self._ready if t._context.get(CURRENT, WORLD) is process)

    # --- what a loop without sockets and threads must answer

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """The work of a thread: done at some later moment, even when nobody waits any more."""
        future: asyncio.Future[Any] = self.create_future()
        process = CURRENT.get()
        is_database = name_of(executor).startswith("database")

        def work() -> None:
            # A thread dies with its process. A request of it may be on its way already.
            if not process.alive and (is_database or self.latency.random() < 0.5):
                return
            try:
                result = func(*args)
            except Died:
                return
            except Exception as error:
                # What a killed process says while it falls is heard by nobody.
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        # A pool of a store's own waits for that store; the common one computes.
        stalled = executor is not None and self.latency.random() < self.faults.stalled
        delay = self.latency.expovariate(0.05 if stalled else 500.0)
        if is_database:
            delay = self.disk.delay(process.service, self.latency)
        self.call_later(delay, work, context=WORLD.context())
        return future

    def point_in_thread(self, name: str) -> None:
        """The same in a plain function; raises Died."""
        if self.strike is not None and self.strike(CURRENT.get(), name):
            raise Died

    async def point(self, name: str) -> None:
        """A place in the code where a process may be killed, stopped or disturbed."""
        if self.strike is not None and self.strike(CURRENT.get(), name):
            forever: asyncio.Future[None] = self.create_future()
            self.graveyard.append(forever)
            await forever

    def start(self, work: Coroutine[Any, Any, Any], process: Process) -> "asyncio.Task[Any]":
        """A task that belongs to a process."""
        task = self.create_task(work, context=process.context())
        self.graveyard.append(task)
        return task

    def watch(self, task: "asyncio.Task[Any]") -> "asyncio.Task[Any]":
        """A task of a simulated part: its failure is a mistake of the simulation."""
        task.add_done_callback(self._note_crash)
        return task

    def _note_crash(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crashes.append(f"simulation: {type(error).__name__} {error}")

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator that is freed must not run its clean-up in whatever process comes next."""

    def get_debug(self) -> bool:
        return False


def name_of(executor: Any) -> str:
    """Of a pool's threads; nothing for the common one."""
    return getattr(executor, "_thread_name_prefix", "")


def running_loop() -> SimulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop


async def pass_time(mean: float) -> None:
    """Some time, of that many seconds on average."""
    await asyncio.sleep(running_loop().latency.expovariate(1.0 / mean))
