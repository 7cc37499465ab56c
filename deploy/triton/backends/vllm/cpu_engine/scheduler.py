"""Runs many completions on one engine: a bounded queue in, one batch per step, deltas out."""

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from cpu_engine import sampling
from cpu_engine.engine import Engine, Progress
from cpu_engine.text import TextStream

IDLE_WAIT_S = 0.1


class QueueFull(Exception):
    """Too many requests wait already; the caller should try again later."""


class PromptTooLong(Exception):
    """The prompt leaves no room for an answer."""


class Sink(Protocol):
    """Where one completion's results go. Called from the scheduler's thread only."""

    def cancelled(self) -> bool: ...

    def delta(self, text: str, prompt_tokens: int, tokens: int, finish: str | None) -> None:
        """New text and its token count; `finish` is stop or length on the last call."""

    def fail(self, reason: str, *, cancelled: bool = False) -> None:
        """The last call when the completion cannot end normally."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the scheduler."""

    running: int
    waiting: int
    step_tokens: int
    length: int


@dataclass
class Completion:
    """One request on its way through the scheduler."""

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


class Scheduler:
    """Owns the engine's thread; `submit` may be called from any other."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        ends: frozenset[int],
        limits: Limits,
        ended: Callable[[Completion], None],
        report: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._ends = ends
        self._limits = limits
        self._ended = ended
        self._report = report
        self._waiting: queue.Queue[Completion] = queue.Queue(limits.waiting)
        self._running: list[Completion] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def load(self) -> tuple[int, int]:
        """Completions running and waiting."""
        return len(self._running), self._waiting.qsize()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends the thread after its current step; what runs or waits fails."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

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

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._admit()
            self._drop_cancelled()
            if self._running:
                self._step()
        while not self._waiting.empty():
            self._running.append(self._waiting.get_nowait())
        for completion in self._running:
            completion.sink.fail("the engine is stopping")

    def _admit(self) -> None:
        while len(self._running) < self._limits.running:
            try:
                completion = self._waiting.get(
                    block=not self._running, timeout=IDLE_WAIT_S if not self._running else None
                )
            except queue.Empty:
                return
            try:
                self._engine.open(completion.progress)
            except Exception as error:
                self._fail([completion], error)
                continue
            completion.reused = completion.progress.computed
            self._running.append(completion)

    def _drop_cancelled(self) -> None:
        for completion in [c for c in self._running if c.sink.cancelled()]:
            self._running.remove(completion)
            completion.sink.fail("Request was cancelled", cancelled=True)
            self._ended(completion)

    def _step(self) -> None:
        work = self._plan()
        try:
            logits = self._engine.step([(completion.progress, n) for completion, n in work])
            ended = [c for (c, _), row in zip(work, logits, strict=True) if self._advance(c, row)]
        except Exception as error:  # one bad batch must not end the engine
            self._running.clear()
            self._fail([completion for completion, _ in work], error)
            return
        for completion in ended:
            self._running.remove(completion)
            self._ended(completion)

    def _fail(self, completions: list[Completion], error: Exception) -> None:
        """Tells the caller the kind of error and the operator the whole of it."""
        self._report("".join(traceback.format_exception(error)))
        for completion in completions:
            completion.sink.fail(f"Error generating stream: {type(error).__name__}")
            self._ended(completion)

    def _plan(self) -> list[tuple[Completion, int]]:
        """Which tokens to compute: one for each that decodes, then prompts in order of arrival."""
        left = self._limits.step_tokens
        work = []
        ordered = sorted(self._running, key=lambda c: _remaining(c) > 1)
        for completion in ordered:
            count = min(_remaining(completion), left)
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
            logits[list(self._ends)] = -torch.inf
        return logits

    def _emit(self, completion: Completion, token: int) -> bool:
        params = completion.params
        ends = token in params.stop_token_ids or (token in self._ends and not params.ignore_eos)
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


def _remaining(completion: Completion) -> int:
    return len(completion.progress.tokens) - completion.progress.computed


def _generator(params: sampling.SamplingParams) -> torch.Generator | None:
    if params.temperature == 0:
        return None
    generator = torch.Generator()
    if params.seed is None:
        generator.seed()
    else:
        generator.manual_seed(params.seed)
    return generator
