"""The only client of the model server: generation, embedding, adapters; CPU or GPU by address."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
from numpy.typing import NDArray
from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE
from tritonclient.utils import InferenceServerException

from tidemill.modelserver import adapters
from tidemill.modelserver.errors import (
    InvalidRequest,
    ModelServerError,
    ModelServerUnavailable,
    ModelStalled,
    NoProgress,
    TimeRanOut,
    from_server,
)

LLM = "llm"
EMBEDDER = "embedder"
EMBED_ROWS = 32
EMBED_CALLS = 2
ADMIN_HEADER = "triton-grpc-protocol-admin-token"
# Triton 2.51 can crash when a unary deadline expires while it answers: the server-side timeout
# decides, and the gRPC deadline is only there for a server that is gone.
DEADLINE_MARGIN_S = 10.0
END_TIMEOUT_S = 1.0
UNTOLD = "INTERNAL"
"""Status of an error that came without one; most of vLLM's have this one."""
# As between services: a server that is gone without a word is noticed within seconds, not minutes.
CHANNEL = (
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_SIZE),
    ("grpc.http2.ping_timeout_ms", 8_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True)
class Sampling:
    """How a completion is drawn; temperature 0 is greedy and repeatable."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompletionDelta:
    """A piece of a completion; token counts are of this piece, `input_tokens` of the prompt."""

    text: str
    output_tokens: int
    input_tokens: int
    finish_reason: str | None


@dataclass(frozen=True)
class EmbeddingModel:
    """The model behind the vectors; `version` is a hash of its content."""

    name: str
    version: str
    dimensions: int


@dataclass(frozen=True)
class NamedVectors:
    """Unit vectors (texts, dimensions); None for the model when the server does not say it."""

    vectors: NDArray[np.float32]
    model: EmbeddingModel | None


class ModelServer:
    """Talks KServe v2 gRPC to one Triton. Use as an async context manager.

    `repository` is the model repository that server reads, needed to add adapters;
    `admin_token` is needed to load and unload models.
    """

    def __init__(
        self,
        address: str,
        *,
        repository: Path | None = None,
        admin_token: str | None = None,
        idle_timeout: float = 15.0,
    ) -> None:
        self._address = address
        self._repository = repository
        self._admin = {ADMIN_HEADER: admin_token} if admin_token else {}
        self._idle_timeout = idle_timeout
        self._client: Any = None

    async def __aenter__(self) -> Self:
        self._client = triton.InferenceServerClient(self._address, channel_args=CHANNEL)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def live(self, *, timeout: float) -> bool:
        """Whether the server process answers at all; says nothing about its models."""
        try:
            return bool(await _call(self._client.is_server_live(client_timeout=timeout)))
        except ModelServerError:
            return False

    async def ready(self, model: str, *, timeout: float) -> bool:
        """Whether the model answers a real request; its own word is not enough."""
        try:
            if model == EMBEDDER:
                return len(await self.embed(["ready"], timeout=timeout)) == 1
            await self._one_token(None, timeout)
        except ModelServerError:
            return False
        return True

    async def generate(
        self,
        prompt: str,
        sampling: Sampling,
        *,
        adapter: str | None,
        request_id: str,
        timeout: float,
        first_token_timeout: float,
        headers: Mapping[str, str],
    ) -> AsyncIterator[CompletionDelta]:
        """Streams a completion; closing the iterator cancels it. Timeouts are in seconds.

        Raises ModelServerUnavailable, ModelStalled, AdapterNotFound or InvalidRequest; TimeRanOut
        when the timeout of the whole completion ended it.
        """
        request = {
            "model_name": LLM,
            "inputs": _generation_inputs(prompt, sampling, adapter),
            "request_id": request_id,
            "enable_empty_final_response": True,
        }
        # Errors come as messages of the stream, without their status. With the header that asks for
        # it, Triton 2.51 dies of them (docs/decisions/0004).
        stream = self._client.stream_infer(_once(request), headers=dict(headers))
        deadline, wait, ended = time.monotonic() + timeout, first_token_timeout, False
        try:
            while not ended:
                result, ended = await _result(stream, wait, deadline - time.monotonic())
                delta = _delta(result)
                if delta is not None:
                    yield delta
                wait = self._idle_timeout
        finally:
            if not ended:
                stream.cancel()

    async def embed(self, texts: Sequence[str], *, timeout: float) -> NDArray[np.float32]:
        """Unit vectors (texts, dimensions) in the order of the texts.

        Raises ModelServerUnavailable, ModelStalled or InvalidRequest.
        """
        return (await self.embed_named(texts, timeout=timeout)).vectors

    async def embed_named(self, texts: Sequence[str], *, timeout: float) -> NamedVectors:
        """Like embed, with the model that made all of the vectors."""
        if not texts:
            raise InvalidRequest("NO_TEXTS")
        # Texts of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        batches = [order[start : start + EMBED_ROWS] for start in range(0, len(order), EMBED_ROWS)]
        waiting, parts = deque(enumerate(batches)), dict[int, NamedVectors]()

        async def work() -> None:
            try:
                while waiting:
                    number, batch = waiting.popleft()
                    parts[number] = await self._embed([texts[index] for index in batch], timeout)
            except BaseException:
                waiting.clear()  # what did not begin is of no use any more
                raise

        await _all_or_none(work() for _ in range(min(EMBED_CALLS, len(batches))))
        ordered = [parts[number] for number in range(len(batches))]
        if any(part.model != ordered[0].model for part in ordered):
            raise ModelServerUnavailable("MODEL_EXCHANGED")
        vectors = np.empty((len(texts), ordered[0].vectors.shape[1]), np.float32)
        vectors[order] = np.concatenate([part.vectors for part in ordered])
        return NamedVectors(vectors, ordered[0].model)

    async def embedding_model(self, *, timeout: float = 30.0) -> EmbeddingModel:
        """Name, version and size of the embedder in service."""
        answer = await _call(
            self._client.get_model_config(EMBEDDER, client_timeout=timeout + DEADLINE_MARGIN_S)
        )
        parameters = answer.config.parameters
        return EmbeddingModel(
            name=parameters["model_name"].string_value,
            version=parameters["model_version"].string_value,
            dimensions=answer.config.output[0].dims[-1],
        )

    async def add_adapter(self, name: str, folder: Path, *, timeout: float = 60.0) -> None:
        """Makes an adapter usable under a new, permanent name and proves it with one token.

        Raises AdapterConflict, AdapterNotFound, ModelServerUnavailable or ModelStalled.
        """
        if self._repository is None:
            raise InvalidRequest("NO_MODEL_REPOSITORY")
        await asyncio.to_thread(adapters.register, self._repository, name, folder)
        await self._one_token(name, timeout)

    async def load(self, model: str, *, timeout: float = 120.0) -> None:
        """Loads a model; needs the admin token."""
        await _call(self._client.load_model(model, headers=self._admin, client_timeout=timeout))

    async def unload(self, model: str, *, timeout: float = 30.0) -> None:
        """Asks for a model to be unloaded; needs the admin token."""
        await _call(self._client.unload_model(model, headers=self._admin, client_timeout=timeout))

    async def _one_token(self, adapter: str | None, timeout: float) -> None:
        stream = self.generate(
            "Hello",
            Sampling(max_tokens=1),
            adapter=adapter,
            request_id="",
            timeout=timeout,
            first_token_timeout=timeout,
            headers={},
        )
        async with aclosing(stream) as deltas:  # type: ignore[type-var]
            async for _ in deltas:
                pass

    async def _embed(self, texts: list[str], timeout: float) -> NamedVectors:
        tensor = triton.InferInput("text_input", [len(texts), 1], "BYTES")
        rows = np.array([[text.encode()] for text in texts], dtype=object)
        tensor.set_data_from_numpy(rows)
        result = await _call(
            self._client.infer(
                EMBEDDER,
                [tensor],
                timeout=int(timeout * 1e6),
                client_timeout=timeout + DEADLINE_MARGIN_S,
            )
        )
        vectors: NDArray[np.float32] = result.as_numpy("embedding")
        return NamedVectors(vectors, _model_of(result, vectors.shape[1]))


def _model_of(result: Any, dimensions: int) -> EmbeddingModel | None:
    """The model repository of an older release does not tell it."""
    named = result.as_numpy("embedding_model")
    if named is None:
        return None
    name, version = (text.decode() for text in named[0])
    return EmbeddingModel(name, version, dimensions)


async def _once(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


async def _all_or_none(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs them side by side; raises the first failure once none of them runs any more.

    The others get a moment to end by themselves: a cancelled unary call can crash Triton 2.51.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await asyncio.wait(tasks, timeout=END_TIMEOUT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _call(call: Any) -> Any:
    """Awaits one unary call and gives its errors our names."""
    try:
        return await call
    except InferenceServerException as error:
        raise from_server(_status(error), error.message() or "") from None
    except grpc.aio.AioRpcError as error:
        raise from_server(error.code().name, error.details() or "") from None


async def _result(stream: Any, wait: float, left: float) -> tuple[Any, bool]:
    """The stream's next result, and whether it was the last: then the call is over too.

    wait: seconds that the next result may take; left: seconds that all the rest may take.
    """
    try:
        result, error = await _next(stream, min(wait, left))
    except NoProgress:
        if left <= wait:
            raise TimeRanOut("DEADLINE_EXCEEDED") from None
        raise
    last = error is not None or _is_final(result)
    if last:
        await _end(stream)
    if error is not None:
        raise from_server(UNTOLD, error.message() or "")
    return result, last


async def _next(stream: Any, timeout: float) -> tuple[Any, InferenceServerException | None]:
    """The stream's next result, or the error in its place, within a time in seconds.

    The time is the watchdog: a stub that died leaves its streams open for ever.
    """
    try:
        result, error = await asyncio.wait_for(anext(stream), max(timeout, 0.0))
        return result, error
    except TimeoutError:
        raise NoProgress("NO_PROGRESS") from None
    except StopAsyncIteration:
        raise ModelStalled("STREAM_ENDED_EARLY") from None
    except grpc.aio.AioRpcError as failed:
        raise from_server(failed.code().name, failed.details() or "") from None
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
        raise ModelServerUnavailable("MODEL_SERVER_UNAVAILABLE") from None


async def _end(stream: Any) -> None:
    """Waits until the call itself is over: one that is dropped before then is cancelled, and a
    cancellation that meets the end of the work can crash Triton (docs/decisions/0004)."""
    with suppress(ModelServerError, TimeoutError):
        async with asyncio.timeout(END_TIMEOUT_S):
            while True:
                await _next(stream, END_TIMEOUT_S)


def _status(error: Any) -> str:
    return str(error.status() or "").removeprefix("StatusCode.")


def _is_final(result: Any) -> bool:
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def _delta(result: Any) -> CompletionDelta | None:
    text = result.as_numpy("text_output")
    if text is None:
        return None
    finish = result.as_numpy("finish_reason").reshape(-1)[0].decode()
    return CompletionDelta(
        text=text.reshape(-1)[0].decode(),
        output_tokens=int(result.as_numpy("num_output_tokens").sum()),
        input_tokens=int(result.as_numpy("num_input_tokens").sum()),
        finish_reason=None if finish == "None" else finish,
    )


def _generation_inputs(prompt: str, sampling: Sampling, adapter: str | None) -> list[Any]:
    wanted = {name: value for name, value in asdict(sampling).items() if value not in (None, ())}
    if adapter is not None:
        wanted["lora_name"] = adapter
    flags = ("stream", "exclude_input_in_output", "return_finish_reason")
    counts = ("return_num_input_tokens", "return_num_output_tokens")
    return [
        _tensor("text_input", "BYTES", prompt.encode()),
        _tensor("sampling_parameters", "BYTES", json.dumps(wanted).encode()),
        *(_tensor(name, "BOOL", True) for name in flags + counts),
    ]


def _tensor(name: str, kind: str, value: bytes | bool) -> Any:
    tensor = triton.InferInput(name, [1], kind)
    array = np.array([value], dtype=object if kind == "BYTES" else bool)
    tensor.set_data_from_numpy(array)
    return tensor
