"""Runs many completions on one engine: a bounded queue in, lanes that take from it, deltas out.

A product of a few rows does not keep two processors busy, and a pair that shares it waits for the
one that something else interrupts. So the engine works in lanes: each has completions and
processors of its own. A lane that is alone in its work gets all processors.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from cpu_engine import sampling
from cpu_engine.engine import Engine, Progress
from cpu_engine.lane import Completion, Lane, Sink, Surroundings
from cpu_engine.text import TextStream


class QueueFull(Exception):
    """Too many requests wait already; the caller should try again later."""


class PromptTooLong(Exception):
    """The prompt leaves no room for an answer."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the scheduler: completions that run and wait, tokens of a lane's step and of a
    sequence, lanes, and threads of all lanes together."""

    running: int
    waiting: int
    step_tokens: int
    length: int
    lanes: int = 1
    threads: int = 1


class Scheduler:
    """Owns the lanes' threads; `submit` may be called from any other."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        ends: frozenset[int],
        limits: Limits,
        ended: Callable[[Completion], None],
        report: Callable[[str], None],
    ) -> None:
        """`ended` and `report` are called from the lanes' threads, one call at a time or not."""
        self._tokenizer = tokenizer
        self._limits = limits
        self._waiting: queue.Queue[Completion | None] = queue.Queue(limits.waiting)
        self._stopping = threading.Event()
        shared = Surroundings(
            engine, ends, self._waiting, self._stopping, ended, report, self._share_of_threads
        )
        lanes = limits.lanes if engine.parallel else 1
        seats = _seats(limits.running, min(lanes, limits.running))
        self._lanes = [Lane(shared, count, limits.step_tokens) for count in seats]
        self._threads = [
            threading.Thread(target=lane.run, name=f"lane-{number}", daemon=True)
            for number, lane in enumerate(self._lanes)
        ]

    @property
    def load(self) -> tuple[int, int]:
        """Completions running and waiting."""
        return sum(len(lane.running) for lane in self._lanes), self._waiting.qsize()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Ends the threads after their current step; what runs or waits fails."""
        self._stopping.set()
        with suppress(queue.Full):  # then no lane waits
            for _ in self._lanes:
                self._waiting.put_nowait(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        with suppress(queue.Empty):
            while True:
                if (left := self._waiting.get_nowait()) is not None:
                    left.sink.fail("the engine is stopping")

    def submit(
        self, prompt: str, params: sampling.SamplingParams, adapter: str | None, sink: Sink
    ) -> None:
        """Queues one completion; raises PromptTooLong or QueueFull."""
        tokens = self._tokenizer.encode(prompt).ids
        room = self._limits.length - len(tokens)
        if not tokens or room < 1:
            raise PromptTooLong(
                f"The decoder prompt (length {len(tokens)}) is longer than the maximum model "
                f"length of {self._limits.length}"
            )
        limit = min(params.max_tokens, room)
        progress = Progress(tokens, adapter, capacity=len(tokens) + limit)
        text = TextStream(self._tokenizer, params.stop)
        completion = Completion(
            progress, params, sink, text, len(tokens), limit, _generator(params)
        )
        try:
            self._waiting.put_nowait(completion)
        except queue.Full as error:
            raise QueueFull("Exceeds maximum queue size") from error

    def _share_of_threads(self) -> int:
        busy = sum(bool(lane.running) for lane in self._lanes)
        return max(1, self._limits.threads // max(1, busy))


def _seats(running: int, lanes: int) -> list[int]:
    """Completions that each lane may run: as equal as can be, together `running`."""
    return [running // lanes + (number < running % lanes) for number in range(lanes)]


def _generator(params: sampling.SamplingParams) -> torch.Generator | None:
    if params.temperature == 0:
        return None
    generator = torch.Generator()
    if params.seed is None:
        generator.seed()
    else:
        generator.manual_seed(params.seed)
    return generator
