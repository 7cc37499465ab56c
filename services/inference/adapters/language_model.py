"""The model server as inference needs it: a bounded stream of text, and adapters by name."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

from services.inference.domain.completion import CompletionRequest, Delta
from tidemill.faults import Fault, Reason
from tidemill.modelserver.client import LLM, CompletionDelta, ModelServer, Sampling
from tidemill.modelserver.errors import (
    OVERLOADED,
    PROMPT_TOO_LONG,
    AdapterConflict,
    AdapterNotFound,
    InvalidRequest,
    ModelServerError,
    TimeRanOut,
)


class LanguageModel:
    """Greedy completions of one model server.

    Faults: DEPENDENCY_UNAVAILABLE when it is down or stalled; OVERLOADED when its queue is full;
    ADAPTER_UNAVAILABLE when it does not hold the adapter; INVALID_ARGUMENT with the field when the
    prompt is too long for it; DEADLINE_EXCEEDED when the request's own time is over.
    """

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    @property
    def name(self) -> str:
        return LLM

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        """Deltas until the model is done. Closing the iterator stops the model."""
        stream = self._server.generate(
            request.prompt,
            Sampling(max_tokens=request.max_tokens, temperature=0.0, stop=request.stop),
            adapter=request.adapter,
            request_id=request.request_id,
            timeout=request.timeout,
            first_token_timeout=min(request.first_token_timeout, request.timeout),
            headers=request.headers,
        )
        with model_faults(), request_faults():
            async with aclosing(cast(AsyncGenerator[CompletionDelta, None], stream)) as deltas:
                async for delta in deltas:
                    finish = delta.finish_reason or ""
                    # A model may say anything, but no row and no event can hold a NUL.
                    text = delta.text.replace("\0", "")
                    yield Delta(text, delta.input_tokens, delta.output_tokens, finish)

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Adds the adapter; the model server answers one token with it before this returns."""
        with model_faults():
            await self._server.add_adapter(name, folder)


@asynccontextmanager
async def open_language_model(
    address: str, repository: Path | None
) -> AsyncIterator[LanguageModel]:
    """A connection to the model server at the address; the server may come up later.

    repository: the folder that the server reads, which new adapters are written to.
    """
    async with ModelServer(address, repository=repository) as server:
        yield LanguageModel(server)


@contextmanager
def model_faults() -> Iterator[None]:
    """Turns the model server's errors into faults."""
    try:
        yield
    except ModelServerError as error:
        raise fault_of(error) from error


@contextmanager
def request_faults() -> Iterator[None]:
    """What ended because of the request itself is no outage of the server.

    The question is the only part of a prompt whose length the caller chooses.
    """
    try:
        yield
    except TimeRanOut as error:
        raise Fault(Reason.DEADLINE_EXCEEDED, cause=error.reason) from error
    except InvalidRequest as error:
        if error.reason != PROMPT_TOO_LONG:
            raise
        problem = error.reason
        raise Fault(Reason.INVALID_ARGUMENT, field="question", problem=problem) from error


def fault_of(error: ModelServerError) -> Fault:
    match error:
        case AdapterNotFound():
            return Fault(Reason.ADAPTER_UNAVAILABLE, cause=error.reason)
        case AdapterConflict():
            return Fault(Reason.FAILED_PRECONDITION, problem=error.reason)
        case InvalidRequest():
            # Nothing that a caller sent: sampling, stop strings and rights are ours.
            return Fault(Reason.FAILED_PRECONDITION, problem=error.reason)
        case _ if error.reason == OVERLOADED:
            return Fault(Reason.OVERLOADED, dependency="model_server")
        case _:
            cause = error.reason
            return Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="model_server", cause=cause)
