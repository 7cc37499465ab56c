"""Every answer, however it ended, becomes one row and one event in one transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from services.inference.adapters.store import add_answer
from services.inference.domain.answer import Answer, Chunk
from services.inference.handlers.observing import Observer
from tidemill import topics
from tidemill.api.common.v1 import Usage
from tidemill.api.events.v1 import (
    PURPOSE_EVALUATION,
    PURPOSE_PRODUCTION,
    AnswerGenerated,
    GuardrailVerdict,
    RetrievedChunk,
)
from tidemill.bus import Bus, UnitOfWork
from tidemill.clock import Clock
from tidemill.db.rivals import outlasting_rivals
from tidemill.faults import Fault, Reason
from tidemill.security.personal_data import mask
from tidemill.timestamps import utc_time

log = structlog.get_logger()


class Recorder:
    """Records each answer once. A caller that goes away does not stop the record."""

    def __init__(self, bus: Bus, clock: Clock, observer: Observer) -> None:
        self._bus = bus
        self._clock = clock
        self._observer = observer
        self._writing: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def recording(self, answer: Answer) -> AsyncIterator[None]:
        """Records the answer if the block fails or is cancelled; finish records it otherwise."""
        try:
            yield
        except Fault as fault:
            answer.fail(recorded_reason(fault).value)
            await self._settle(answer)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if not answer.recorded and answer.answer_id not in self._writing:
                answer.cancel()
            await self._settle(answer)
            raise
        except Exception:
            answer.fail(Reason.INTERNAL.value)
            await self._settle(answer)
            raise

    async def finish(self, answer: Answer) -> None:
        """Records an answer that ended by itself; its faults are the caller's to see."""
        await self._write(answer)

    async def close(self) -> None:
        """Waits for records under way."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    async def _settle(self, answer: Answer) -> None:
        try:
            await self._write(answer)
        except Fault as fault:  # the first error is the one that the caller must see
            log.error("answer_not_recorded", reason=fault.reason.value)

    async def _write(self, answer: Answer) -> None:
        """Waits for the one write of an answer; a caller that goes away leaves it running."""
        if answer.recorded:
            return
        name = answer.answer_id
        if name not in self._writing:
            answer.duration_seconds = self._clock.monotonic() - answer.started_at
            self._writing[name] = asyncio.create_task(self._record(answer))
            self._writing[name].add_done_callback(lambda _: self._writing.pop(name))
        await asyncio.shield(self._writing[name])

    async def _record(self, answer: Answer) -> None:
        self._observer.observe(answer)
        await self._commit(answer)
        answer.recorded = True

    @outlasting_rivals
    async def _commit(self, answer: Answer) -> None:
        event = answer_event(answer, self._clock.now())

        def record(unit: UnitOfWork) -> None:
            add_answer(unit.session, answer_values(event, answer.traceparent))
            unit.publish(topics.ANSWERS_GENERATED, answer.answer_id, event)

        await self._bus.write(answer.tenant_id, record)


def recorded_reason(fault: Fault) -> Reason:
    """DEADLINE_EXCEEDED on the log is the caller's own; a part that is too slow does not answer."""
    if fault.reason is Reason.DEADLINE_EXCEEDED and not fault.callers_time:
        return Reason.DEPENDENCY_UNAVAILABLE
    return fault.reason


def answer_values(event: AnswerGenerated, traceparent: str) -> dict[str, Any]:
    """Columns of the row that an event leaves; a rebuild reads them back in the same way."""
    return dict(
        tenant_id=event.tenant_id,
        answer_id=event.answer_id,
        release_id=event.release_id,
        prompt_version=event.prompt_version,
        adapter=event.adapter,
        question=event.question,
        text=event.text,
        citations=citations_in(event),
        refused=event.refused,
        refusal_reason=event.refusal_reason,
        finish_reason=event.finish_reason,
        input_tokens=event.usage.input_tokens,
        output_tokens=event.usage.output_tokens,
        cost_micros=event.usage.cost_micros,
        duration_seconds=event.duration_seconds,
        answered_at=utc_time(event, "answered_time"),
        traceparent=traceparent,
    )


def answer_event(answer: Answer, time: datetime) -> AnswerGenerated:
    """The event. The completion is the model's own text, masked like everything recorded."""
    release = answer.choice.release
    now = Timestamp()
    now.FromDatetime(time)
    return AnswerGenerated(
        tenant_id=answer.tenant_id,
        answer_id=answer.answer_id,
        user_hash=answer.user_hash,
        question=answer.question.text,
        question_embedding=answer.retrieved.question_embedding,
        prompt_version=answer.prompt_version,
        prompt=answer.prompt,
        release_id=release.release_id,
        adapter=release.adapter.name if release.adapter else "",
        chunks=[_retrieved(chunk) for chunk in answer.retrieved.chunks],
        completion=mask(answer.completion).text,
        text=answer.text,
        cited_chunk_ids=[chunk.chunk_id for chunk in answer.cited],
        refused=answer.refusal is not None,
        refusal_reason=answer.refusal.value if answer.refusal else "",
        finish_reason=answer.finish.value if answer.finish else "",
        error_reason=answer.error_reason,
        usage=usage_message(answer),
        duration_seconds=answer.duration_seconds,
        first_token_seconds=answer.first_token_seconds,
        purpose=PURPOSE_EVALUATION if answer.is_evaluation else PURPOSE_PRODUCTION,
        canary=answer.choice.canary,
        guardrail_verdicts=_verdicts(answer),
        answered_time=now,
    )


def usage_message(answer: Answer) -> Usage:
    usage = answer.usage
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_micros=usage.cost_micros,
    )


def citations_of(answer: Answer) -> list[dict[str, Any]]:
    """The fields of a Citation for each cited chunk."""
    return [_citation(_retrieved(chunk)) for chunk in answer.cited]


def citations_in(event: AnswerGenerated) -> list[dict[str, Any]]:
    """The same, read from the event."""
    shown = {chunk.chunk_id: chunk for chunk in event.chunks}
    return [_citation(shown[name]) for name in event.cited_chunk_ids if name in shown]


def _citation(chunk: RetrievedChunk) -> dict[str, Any]:
    return {
        "marker": chunk.marker,
        "document_id": chunk.document_id,
        "version": chunk.version,
        "chunk_id": chunk.chunk_id,
        "title": chunk.title,
        "score": chunk.score,
    }


def _retrieved(chunk: Chunk) -> RetrievedChunk:
    return RetrievedChunk(
        chunk_id=chunk.chunk_id,
        document_id=chunk.document_id,
        version=chunk.version,
        score=chunk.score,
        marker=chunk.marker,
        title=chunk.title,
    )


def _verdicts(answer: Answer) -> list[GuardrailVerdict]:
    verdicts = answer.guarded.verdicts if answer.guarded else ()
    return [GuardrailVerdict(guardrail=v.guardrail, outcome=v.outcome) for v in verdicts]
