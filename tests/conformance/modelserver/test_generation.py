"""The LLM in a real Triton: streaming, limits, cancellation and errors."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from tests.conformance.modelserver.conftest import Target
from tests.conformance.modelserver.reference import PROMPTS
from tests.conformance.modelserver.served import Served, raw, wait_until
from tidemill.modelserver.client import CompletionDelta, ModelServer, Sampling
from tidemill.modelserver.errors import InvalidRequest, ModelServerUnavailable, TimeRanOut

pytestmark = [pytest.mark.triton, pytest.mark.asyncio]
SIDE_BY_SIDE_S = 8.0
LONG = "Count from one to one thousand: one, two, three, four, five, six, seven,"


async def complete(
    client: ModelServer, prompt: str, adapter: str | None = None, **sampling: Any
) -> list[CompletionDelta]:
    wanted = {"max_tokens": 16} | sampling
    stream = client.generate(
        prompt,
        Sampling(**wanted),
        adapter=adapter,
        request_id="test",
        timeout=60.0,
        first_token_timeout=60.0,
        headers={},
    )
    async with aclosing(stream) as deltas:  # type: ignore[type-var]
        return [delta async for delta in deltas]


def text(deltas: list[CompletionDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_a_completion_streams_in_pieces_and_ends_with_a_reason(client: ModelServer) -> None:
    deltas = await complete(client, LONG, max_tokens=8)
    assert len(deltas) > 3
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "length"
    assert sum(delta.output_tokens for delta in deltas) == 8
    assert all(delta.input_tokens > 10 for delta in deltas)


async def test_greedy_completions_repeat_exactly_alone_and_in_company(client: ModelServer) -> None:
    alone = [text(await complete(client, prompt)) for prompt in PROMPTS[:4]]
    together = await asyncio.gather(*(complete(client, prompt) for prompt in PROMPTS[:4] * 2))
    assert [text(deltas) for deltas in together] == alone * 2


async def test_a_seed_repeats_a_sampled_completion(client: ModelServer) -> None:
    sampling: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 12}
    first = text(await complete(client, LONG, seed=5, **sampling))
    assert text(await complete(client, LONG, seed=5, **sampling)) == first
    others = [text(await complete(client, LONG, seed=seed, **sampling)) for seed in (6, 7, 8)]
    assert any(other != first for other in others)


async def test_a_stop_string_ends_the_text_before_it(client: ModelServer) -> None:
    whole = text(await complete(client, LONG, max_tokens=12))
    stop = whole.split()[2]
    deltas = await complete(client, LONG, max_tokens=12, stop=(stop,))
    assert text(deltas) == whole[: whole.index(stop)]
    assert deltas[-1].finish_reason == "stop"


async def test_an_unknown_sampling_key_is_refused(target: Target) -> None:
    async for _, error in raw(target.address, "Hello", {"max_tokens": 2, "magic": 1}):
        assert "Unexpected keyword argument 'magic'" in error.message()


async def test_a_prompt_beyond_the_model_length_is_refused(client: ModelServer) -> None:
    with pytest.raises(InvalidRequest, match="PROMPT_TOO_LONG"):
        await complete(client, "word " * 3000)


async def test_a_wrong_sampling_value_is_refused(client: ModelServer) -> None:
    with pytest.raises(InvalidRequest, match="INVALID_REQUEST"):
        await complete(client, "Hello", temperature=-1.0)


async def test_closing_the_iterator_stops_the_work(served: Served) -> None:
    name = "vllm:generation_tokens_total"
    before = served.metric(name)
    stream = raw(served.address, LONG, {"max_tokens": 1500, "ignore_eos": True, "temperature": 0})
    async with aclosing(stream) as pieces:
        async for result, error in pieces:
            assert error is None
            assert result is not None
            break
    await asyncio.to_thread(wait_until, lambda: served.metric(name) > before, 60.0)
    assert served.metric(name) - before < 300


async def test_refusals_and_cancellations_among_completions_leave_the_server_alive(
    client: ModelServer, served: Served
) -> None:
    """Triton 2.51 dies within seconds when errors end calls while other streams end."""
    server, ends = served.triton(), time.monotonic() + SIDE_BY_SIDE_S

    async def refused() -> None:
        with pytest.raises(InvalidRequest):
            await complete(client, "Hello", temperature=-1.0)

    async def answered() -> None:
        await complete(client, "Hello", max_tokens=1)

    async def cancelled() -> None:
        stream = raw(served.address, LONG, {"max_tokens": 50, "temperature": 0})
        async with aclosing(stream) as pieces:
            await anext(pieces)

    async def again(ask: Callable[[], Awaitable[None]]) -> int:
        count = 0
        while time.monotonic() < ends:
            await ask()
            count += 1
        return count

    counts = await asyncio.gather(*(again(ask) for ask in (refused, answered, cancelled) * 2))
    assert all(counts)
    assert server.is_running()


async def test_a_completion_that_takes_too_long_stalls(client: ModelServer) -> None:
    stream = client.generate(
        LONG,
        Sampling(max_tokens=1000),
        adapter=None,
        request_id="",
        timeout=0.5,
        first_token_timeout=60.0,
        headers={},
    )
    with pytest.raises(TimeRanOut, match="DEADLINE_EXCEEDED"):
        async for _ in stream:
            pass


async def test_more_requests_than_the_queue_holds_are_turned_away(
    client: ModelServer, served: Served
) -> None:
    """Our engine's bound; NVIDIA's backend has none, and inference admits fewer anyway."""
    results = await asyncio.gather(
        *(complete(client, "Hello", max_tokens=1) for _ in range(110)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Exception)]
    assert refused
    assert {str(error) for error in refused} == {"MODEL_OVERLOADED"}
    assert len(results) - len(refused) >= 64


async def test_an_absent_server_is_named_unavailable() -> None:
    async with ModelServer("127.0.0.1:1") as client:
        assert not await client.ready("llm", timeout=5.0)
        with pytest.raises(ModelServerUnavailable, match="MODEL_SERVER_UNAVAILABLE"):
            await client.embed(["text"], timeout=5.0)
