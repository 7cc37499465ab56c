"""Answer one question: choose the release, retrieve, ask the model, guard, record."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from services.inference.adapters.adapter_shelf import AdapterShelf
from services.inference.adapters.release_book import ReleaseBook
from services.inference.adapters.retrieval import Retrieval
from services.inference.domain.answer import Answer, Question
from services.inference.domain.completion import CompletionRequest, Delta, Model
from services.inference.domain.guard import AnswerGuard
from services.inference.domain.pricing import Price
from services.inference.domain.prompts import Prompt, UnknownPrompt, find_prompt
from services.inference.domain.refusals import Refusal
from services.inference.domain.releases import Adapter, user_hash
from services.inference.handlers.admission import Admission
from services.inference.handlers.deadline import Deadline
from services.inference.handlers.recording import Recorder
from services.inference.handlers.releases import choose
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.faults import Fault, Reason
from tidemill.ids import new_id
from tidemill.security.personal_data import mask
from tidemill.telemetry.tracing import current_traceparent


@dataclass(frozen=True)
class Limits:
    """Bounds of one answer; times in seconds."""

    relevance_threshold: float
    retrieval_seconds: float
    first_token_seconds: float
    answer_seconds: float
    price: Price


@dataclass(frozen=True)
class Answering:
    """What answering stands on."""

    clock: Clock
    database: Database
    releases: ReleaseBook
    retrieval: Retrieval
    model: Model
    shelf: AdapterShelf
    admission: Admission
    recorder: Recorder
    secret: bytes
    limits: Limits


@dataclass(frozen=True)
class Started:
    """The answer has a name and a release."""

    answer: Answer


@dataclass(frozen=True)
class Completed:
    """The answer is recorded; nothing follows."""

    answer: Answer


Event = Started | str | Completed


async def answer(
    parts: Answering, question: Question, token: str, timeout: float
) -> AsyncGenerator[Event, None]:
    """Started, pieces of text, Completed. timeout: the caller's own deadline in seconds.

    Faults: OVERLOADED, RELEASE_NOT_FOUND, ADAPTER_UNAVAILABLE, DEADLINE_EXCEEDED, and those of
    embedder, retriever and model server. Whatever happens after Started is recorded.
    """
    deadline = Deadline.after(parts.clock, timeout, parts.limits.answer_seconds)
    async with parts.admission.turn(deadline.left()):
        growing = await _begin(parts, question)
        async with (
            parts.recorder.recording(growing),
            aclosing(_steps(parts, growing, token, deadline)) as events,
        ):
            with deadline.naming_whose():
                async for event in events:
                    yield event


async def _begin(parts: Answering, question: Question) -> Answer:
    answer_id = new_id("ans")
    releases = await parts.releases.of(question.tenant_id)
    choice = await choose(releases, parts.shelf, parts.secret, question, answer_id)
    hashed = user_hash(parts.secret, question.tenant_id, question.end_user_id)
    version = _prompt(choice.release.prompt_version).version
    now = parts.clock.monotonic()
    return Answer(answer_id, question, hashed, choice, version, now, current_traceparent())


async def _steps(
    parts: Answering, growing: Answer, token: str, deadline: Deadline
) -> AsyncGenerator[Event, None]:
    yield Started(growing)
    timeout = deadline.left(parts.limits.retrieval_seconds)
    growing.retrieved = await parts.retrieval.nearest(
        growing.question.text, token=token, timeout=timeout
    )
    if growing.retrieved.is_relevant(parts.limits.relevance_threshold):
        async with aclosing(_generate(parts, growing, deadline)) as pieces:
            async for piece in pieces:
                growing.saw_text(parts.clock.monotonic())
                yield piece
    else:
        yield growing.refuse_unasked(Refusal.NO_RELEVANT_DOCUMENT)
    await parts.recorder.finish(growing)
    yield Completed(growing)


async def _generate(
    parts: Answering, growing: Answer, deadline: Deadline
) -> AsyncGenerator[str, None]:
    """Asks the model and yields what the guard lets through."""
    passages = [chunk.passage for chunk in growing.retrieved.chunks]
    prompt = _prompt(growing.prompt_version)
    growing.prompt = prompt.build(passages, growing.question.text)
    guard = AnswerGuard(passages, growing.question.text, mask)
    finish_reason = ""
    async with aclosing(_deltas(parts, growing, prompt, deadline)) as deltas:
        async for delta in deltas:
            finish_reason = delta.finish_reason or finish_reason
            piece = guard.feed(delta.text)
            if piece or guard.ended or growing.guarded is None:
                growing.guarded = guard.result()
            if piece:
                yield piece
            if guard.ended:
                break
    rest = guard.finish()
    growing.complete(guard.result(), finish_reason)
    if rest:
        yield rest


async def _deltas(
    parts: Answering, growing: Answer, prompt: Prompt, deadline: Deadline
) -> AsyncGenerator[Delta, None]:
    """The model's own deltas, counted and kept as they come."""
    adapter = growing.choice.release.adapter
    request = CompletionRequest(
        request_id=growing.answer_id,
        prompt=growing.prompt,
        stop=prompt.stop,
        max_tokens=growing.question.max_output_tokens,
        adapter=adapter.name if adapter else None,
        first_token_timeout=parts.limits.first_token_seconds,
        timeout=deadline.left(),
        headers={"traceparent": growing.traceparent},
    )
    with _forgetting(parts.shelf, adapter):
        async with aclosing(parts.model.complete(request)) as deltas:
            async for delta in deltas:
                growing.completion += delta.text
                growing.count(delta.input_tokens, delta.output_tokens, parts.limits.price)
                yield delta


@contextmanager
def _forgetting(shelf: AdapterShelf, adapter: Adapter | None) -> Iterator[None]:
    """A model server that lost its adapters gets them again with the next answer."""
    try:
        yield
    except Fault as fault:
        if adapter and fault.reason is Reason.ADAPTER_UNAVAILABLE:
            shelf.forget(adapter.name)
        raise


def _prompt(version: str) -> Prompt:
    try:
        return find_prompt(version)
    except UnknownPrompt:
        # A release of a newer version of this service: this one cannot serve it.
        raise Fault(Reason.FAILED_PRECONDITION, problem="PROMPT_UNKNOWN") from None
