"""One lane of the engine: a thread that runs its share of the completions, one batch per step."""

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from cpu_engine import sampling
from cpu_engine.engine import Engine, Progress
from cpu_engine.text import TextStream


class Sink(Protocol):
    """Where one completion's results go; never called from two threads at a time."""

    def cancelled(self) -> bool: ...

    def delta(self, text: str, prompt_tokens: int, tokens: int, finish: str | None) -> None:
        """New text and its token count; `finish` is stop or length on the last call."""

    def fail(self, reason: str, *, cancelled: bool = False) -> None:
        """The last call when the completion cannot end normally."""


@dataclass(eq=False)
class Completion:
    """One request on its way through the engine; equal to itself alone."""

    progress: Progress
    params: sampling.SamplingParams
    sink: Sink
    text: TextStream
    prompt_tokens: int
    limit: int
    generator: torch.Generator | None
    arrived: float = field(default_factory=time.monotonic)
    unsent: int = 0
    first: float | None = None
    reused: int = 0

    @property
    def produced(self) -> int:
        return len(self.progress.tokens) - self.prompt_tokens

    @property
    def remaining(self) -> int:
        """Tokens that are known and not computed yet."""
        return len(self.progress.tokens) - self.progress.computed


@dataclass(frozen=True)
class Surroundings:
    """What all lanes share. `ended` and `report` may be called from any of their threads."""

    engine: Engine
    ends: frozenset[int]
    waiting: "queue.Queue[Completion | None]"
    """None only wakes a lane that waits, so that it sees that it shall stop."""
    stopping: threading.Event
    ended: Callable[[Completion], None]
    report: Callable[[str], None]
    threads: Callable[[], int]
    """Threads that a step may use just now."""


class Lane:
    """Takes completions from the shared queue while it has seats, and computes step by step."""

    def __init__(self, shared: Surroundings, seats: int, step_tokens: int) -> None:
        self._shared = shared
        self._seats = seats
        self._step_tokens = step_tokens
        self._threads = 0
        self.running: list[Completion] = []

    def run(self) -> None:
        """The thread's work, until `stopping` is set; what runs then fails."""
        while not self._shared.stopping.is_set():
            self._admit()
            self._drop_cancelled()
            if self.running:
                self._set_threads(self._shared.threads())
                self._step()
        for completion in self.running:
            completion.sink.fail("the engine is stopping")

    def _set_threads(self, threads: int) -> None:
        """For this lane's products alone: PyTorch keeps the number by thread."""
        if threads != self._threads:
            self._threads = threads
            torch.set_num_threads(threads)

    def _admit(self) -> None:
        while len(self.running) < self._seats:
            idle = not self.running
            try:
                completion = self._shared.waiting.get(block=idle)
            except queue.Empty:
                return
            if completion is None:
                return
            self.running.append(completion)
            try:
                self._shared.engine.open(completion.progress)
            except Exception as error:
                self._fail([completion], error)
                continue
            completion.reused = completion.progress.computed

    def _drop_cancelled(self) -> None:
        for completion in [c for c in self.running if c.sink.cancelled()]:
            self._drop(completion, "Request was cancelled", cancelled=True)

    def _step(self) -> None:
        work = self._plan()
        try:
            logits = self._shared.engine.step([(one.progress, n) for one, n in work])
        except Exception as error:  # one bad batch must not end the lane
            self._fail(list(self.running), error)
            return
        for (completion, _), row in zip(work, logits, strict=True):
            try:
                ended = self._advance(completion, row)
            except Exception as error:  # nor one bad completion its batch
                self._fail([completion], error)
                continue
            if ended:
                self.running.remove(completion)
                self._shared.ended(completion)

    def _fail(self, completions: list[Completion], error: Exception) -> None:
        """Tells the caller the kind of error and the operator the whole of it."""
        self._shared.report("".join(traceback.format_exception(error)))
        for completion in completions:
            self._drop(completion, f"Error generating stream: {type(error).__name__}")

    def _drop(self, completion: Completion, reason: str, *, cancelled: bool = False) -> None:
        self.running.remove(completion)
        try:
            completion.sink.fail(reason, cancelled=cancelled)
        except Exception as error:  # a sink that is closed already has its answer
            self._shared.report("".join(traceback.format_exception(error)))
        self._shared.ended(completion)

    def _plan(self) -> list[tuple[Completion, int]]:
        """Which tokens to compute: one for each that decodes, then prompts in order of arrival."""
        left = self._step_tokens
        work = []
        for completion in sorted(self.running, key=lambda c: c.remaining > 1):
            count = min(completion.remaining, left)
            if count:
                work.append((completion, count))
                left -= count
        return sorted(work, key=lambda item: item[0].progress.adapter or "")

    def _advance(self, completion: Completion, logits: Tensor) -> bool:
        """Takes the next token if the prompt is done; answers whether the completion ended."""
        progress = completion.progress
        if progress.computed < len(progress.tokens):
            return False
        token = sampling.choose(
            self._masked(completion, logits),
            completion.params,
            progress.tokens,
            completion.generator,
        )
        progress.tokens.append(token)
        completion.first = completion.first or time.monotonic()
        completion.unsent += 1
        return self._emit(completion, token)

    def _masked(self, completion: Completion, logits: Tensor) -> Tensor:
        """Forbids the end while fewer than min_tokens are out."""
        if completion.produced < completion.params.min_tokens:
            logits[list(self._shared.ends)] = -torch.inf
        return logits

    def _emit(self, completion: Completion, token: int) -> bool:
        params, is_end = completion.params, token in self._shared.ends
        ends = token in params.stop_token_ids or (is_end and not params.ignore_eos)
        text, stopped = ("", True) if ends else completion.text.push(token)
        finish = (
            "stop" if stopped else "length" if completion.produced >= completion.limit else None
        )
        if ends or finish == "length":
            text += completion.text.flush()
        if text or finish:
            completion.sink.delta(text, completion.prompt_tokens, completion.unsent, finish)
            completion.unsent = 0
        return finish is not None
