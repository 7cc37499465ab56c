"""The scheduler on a tiny model: order, bounds, cancellation, failure."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

TIMEOUT_S = 30.0


class Collected:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, int]] = []
        self.ended: queue.Queue[str] = queue.Queue()
        self.cancel = threading.Event()

    def cancelled(self) -> bool:
        return self.cancel.is_set()

    def delta(self, text: str, prompt_tokens: int, tokens: int, finish: str | None) -> None:
        self.pieces.append((text, tokens))
        if finish:
            self.ended.put(finish)

    def fail(self, reason: str, *, cancelled: bool = False) -> None:
        self.ended.put(reason)

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.pieces)


Open = Callable[..., Any]


@pytest.fixture(params=[1, 2], ids=["one lane", "two lanes"])
def scheduler(tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens schedulers on the tiny model; all are stopped at the end."""
    from cpu_engine.engine import DecoderEngine, end_tokens
    from cpu_engine.scheduler import Limits, Scheduler
    from cpu_engine.text import load_tokenizer

    opened = []

    def open_one(waiting: int = 16, engine: Any = None, reports: Any = None) -> Any:
        limits = Limits(
            running=3, waiting=waiting, step_tokens=8, length=128, lanes=request.param, threads=2
        )
        one = Scheduler(
            engine or DecoderEngine(tiny_model, torch.float32, 0),
            load_tokenizer(tiny_model),
            end_tokens(tiny_model),
            limits,
            lambda completion: None,
            (reports if reports is not None else []).append,
        )
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        one.stop(TIMEOUT_S)


def greedy(**given: Any) -> Any:
    from cpu_engine.sampling import SamplingParams

    return SamplingParams(**{"temperature": 0.0, "max_tokens": 12, "ignore_eos": True} | given)


def complete(scheduler: Any, prompt: str, **given: Any) -> Collected:
    sink = Collected()
    scheduler.submit(prompt, greedy(**given), None, sink)
    return sink


def test_lanes_without_work_end_when_told_to(scheduler: Open) -> None:
    before = threading.active_count()
    one = scheduler()
    one.start()
    assert threading.active_count() > before
    one.stop(TIMEOUT_S)
    assert threading.active_count() == before


def test_more_completions_than_seats_all_end_as_they_would_alone(scheduler: Open) -> None:
    one = scheduler()
    one.start()
    prompts = [f"prompt number {number}" for number in range(7)]
    alone = []
    for prompt in prompts:
        sink = complete(one, prompt)
        assert sink.ended.get(timeout=TIMEOUT_S) == "length"
        alone.append(sink.text)
    together = [complete(one, prompt) for prompt in prompts]
    for sink, wanted in zip(together, alone, strict=True):
        assert sink.ended.get(timeout=TIMEOUT_S) == "length"
        assert (sink.text, sink.tokens) == (wanted, 12)


def test_lanes_that_share_prompt_beginnings_answer_as_one_alone_without_them(
    scheduler: Open, tiny_model: Path
) -> None:
    from cpu_engine.engine import DecoderEngine

    prompts = [f"{'the same beginning ' * (number % 4)}{number}" for number in range(24)]
    plain, sharing = scheduler(), scheduler(32, DecoderEngine(tiny_model, torch.float32, 64))
    plain.start()
    sharing.start()
    alone = []
    for prompt in prompts:
        alone.append(complete(plain, prompt))
        assert alone[-1].ended.get(timeout=TIMEOUT_S) == "length"
    together = [complete(sharing, prompt) for prompt in prompts]
    for sink, wanted in zip(together, alone, strict=True):
        assert sink.ended.get(timeout=TIMEOUT_S) == "length"
        assert sink.text == wanted.text


def test_an_engine_that_cannot_run_side_by_side_gets_one_lane(
    scheduler: Open, tiny_model: Path
) -> None:
    from cpu_engine.engine import DecoderEngine

    class Alone(DecoderEngine):
        parallel = False
        inside = 0
        most = 0

        def step(self, work: Any) -> torch.Tensor:
            self.inside += 1
            self.most = max(self.most, self.inside)
            logits = super().step(work)
            self.inside -= 1
            return logits

    engine = Alone(tiny_model, torch.float32, 0)
    one = scheduler(engine=engine)
    one.start()
    for sink in [complete(one, f"number {number}", max_tokens=40) for number in range(6)]:
        assert sink.ended.get(timeout=TIMEOUT_S) == "length"
    assert engine.most == 1


def test_what_runs_and_what_waits_fails_when_the_engine_stops(scheduler: Open) -> None:
    one = scheduler()
    sinks = [complete(one, f"number {number}", max_tokens=110) for number in range(8)]
    one.start()
    one.stop(TIMEOUT_S)
    for sink in sinks:
        assert sink.ended.get(timeout=TIMEOUT_S) in {"the engine is stopping", "length"}


def test_a_full_queue_refuses_at_once(scheduler: Open) -> None:
    from cpu_engine.scheduler import QueueFull

    one = scheduler(waiting=2)
    complete(one, "a")
    complete(one, "b")
    with pytest.raises(QueueFull):
        complete(one, "c")


def test_a_prompt_that_leaves_no_room_is_refused(scheduler: Open) -> None:
    from cpu_engine.scheduler import PromptTooLong

    with pytest.raises(PromptTooLong):
        complete(scheduler(), "x" * 128)


def test_an_answer_ends_where_the_model_length_ends(scheduler: Open) -> None:
    one = scheduler()
    one.start()
    sink = complete(one, "x" * 120, max_tokens=100)
    assert sink.ended.get(timeout=TIMEOUT_S) == "length"
    assert sink.tokens == 8


def test_a_cancelled_completion_stops_and_the_others_go_on(scheduler: Open) -> None:
    one = scheduler()
    stopped, kept = complete(one, "stop me", max_tokens=100), complete(one, "keep me")
    stopped.cancel.set()
    one.start()
    assert stopped.ended.get(timeout=TIMEOUT_S) == "Request was cancelled"
    assert stopped.tokens == 0
    assert kept.ended.get(timeout=TIMEOUT_S) == "length"


def test_one_of_two_equal_requests_can_be_cancelled_under_way(
    scheduler: Open, tiny_model: Path
) -> None:
    from cpu_engine.engine import DecoderEngine

    class CancelsLater(DecoderEngine):
        """Calls one request back once both are some tokens on their way."""

        steps = 0

        def step(self, work: Any) -> torch.Tensor:
            self.steps += 1
            if self.steps == 8:
                cancelled.cancel.set()
            return super().step(work)

    one = scheduler(engine=CancelsLater(tiny_model, torch.float32, 0))
    # Short enough that both prompts fit into the first step and stay abreast of each other.
    kept = complete(one, "hey", max_tokens=60)
    cancelled = complete(one, "hey", max_tokens=60)
    one.start()
    assert cancelled.ended.get(timeout=TIMEOUT_S) == "Request was cancelled"
    assert kept.ended.get(timeout=TIMEOUT_S) == "length"
    assert kept.tokens == 60


def test_an_engine_error_fails_its_batch_and_nothing_later(
    scheduler: Open, tiny_model: Path
) -> None:
    from cpu_engine.engine import DecoderEngine

    class FailsOnce(DecoderEngine):
        failed = False

        def step(self, work: Any) -> torch.Tensor:
            if not self.failed:
                self.failed = True
                raise MemoryError("secret detail")
            return super().step(work)

    reports: list[str] = []
    one = scheduler(engine=FailsOnce(tiny_model, torch.float32, 0), reports=reports)
    # Longer than a step, so that some of them are not in the batch that fails.
    sinks = [complete(one, f"{number} is longer than a step of eight") for number in range(3)]
    one.start()
    ends = [sink.ended.get(timeout=TIMEOUT_S) for sink in sinks]
    assert "Error generating stream: MemoryError" in ends
    assert set(ends) <= {"Error generating stream: MemoryError", "length"}
    assert "secret detail" in reports[0]
    assert complete(one, "second").ended.get(timeout=TIMEOUT_S) == "length"


def test_a_sink_that_breaks_ends_its_own_completion_alone(scheduler: Open) -> None:
    class Broken(Collected):
        def delta(self, text: str, prompt_tokens: int, tokens: int, finish: str | None) -> None:
            raise ConnectionError

        def fail(self, reason: str, *, cancelled: bool = False) -> None:
            self.ended.put(reason)
            raise ConnectionError

    one, broken = scheduler(), Broken()
    others = [complete(one, f"number {number}") for number in range(2)]
    one.submit("broken", greedy(), None, broken)
    one.start()
    assert broken.ended.get(timeout=TIMEOUT_S) == "Error generating stream: ConnectionError"
    for sink in [*others, complete(one, "later")]:
        assert sink.ended.get(timeout=TIMEOUT_S) == "length"
        assert sink.tokens == 12
