"""gRPC in: decode, call one handler, encode."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from services.inference.adapters.store import AnswerRow
from services.inference.domain.answer import Answer
from services.inference.handlers.answering import Answering, Completed, Event, Started, answer
from services.inference.handlers.asking import question_of
from services.inference.handlers.feedback import FeedbackTaking, existing_answer, record_feedback
from services.inference.handlers.recording import citations_of, usage_message
from tidemill.api.common.v1 import Usage
from tidemill.api.inference.v1 import (
    Citation,
    GenerateRequest,
    GenerateResponse,
    GenerationCompleted,
    GenerationStarted,
    GetAnswerRequest,
    GetAnswerResponse,
    GetSubmissionRequest,
    GetSubmissionResponse,
    InferenceServiceServicer,
    RecordFeedbackRequest,
    RecordFeedbackResponse,
)
from tidemill.bus.submissions import get_submission
from tidemill.rpc import current_caller

NO_DEADLINE_SECONDS = 3600.0
REPLY_SECONDS = 0.5
"""Kept of the caller's deadline, so that a late answer still ends with our own status."""


@dataclass(frozen=True)
class InferenceServicer(InferenceServiceServicer):
    """InferenceService over the handlers."""

    answering: Answering
    feedback: FeedbackTaking
    default_output_tokens: int

    async def Generate(
        self, request: GenerateRequest, context: Any
    ) -> AsyncGenerator[GenerateResponse, None]:
        caller = current_caller()
        question = question_of(caller, request, self.default_output_tokens)
        left = context.time_remaining()
        timeout = max(NO_DEADLINE_SECONDS if left is None else left - REPLY_SECONDS, 0.0)
        async with aclosing(answer(self.answering, question, caller.token, timeout)) as events:
            async for event in events:
                yield response_of(event)

    async def RecordFeedback(
        self, request: RecordFeedbackRequest, context: Any
    ) -> RecordFeedbackResponse:
        feedback_id = await record_feedback(self.feedback, current_caller(), request)
        return RecordFeedbackResponse(feedback_id=feedback_id)

    async def GetSubmission(
        self, request: GetSubmissionRequest, context: Any
    ) -> GetSubmissionResponse:
        tenant, database = current_caller().tenant_id, self.feedback.database
        found = await get_submission(
            database, "inference", tenant, request.source, request.event_id
        )
        return GetSubmissionResponse(submission=found)

    async def GetAnswer(self, request: GetAnswerRequest, context: Any) -> GetAnswerResponse:
        tenant = current_caller().tenant_id
        return explained(await existing_answer(self.answering.database, tenant, request.answer_id))


def response_of(event: Event) -> GenerateResponse:
    match event:
        case Started():
            return GenerateResponse(started=started(event.answer))
        case Completed():
            return GenerateResponse(completed=completed(event.answer))
        case _:
            return GenerateResponse(text_delta=event)


def started(answer: Answer) -> GenerationStarted:
    choice = answer.choice
    return GenerationStarted(
        answer_id=answer.answer_id,
        release_id=choice.release.release_id,
        canary=choice.canary,
        traceparent=answer.traceparent,
    )


def completed(answer: Answer) -> GenerationCompleted:
    return GenerationCompleted(
        text=answer.text,
        citations=[Citation(**citation) for citation in citations_of(answer)],
        refused=answer.refusal is not None,
        refusal_reason=answer.refusal.value if answer.refusal else "",
        finish_reason=answer.finish.value if answer.finish else "",
        usage=usage_message(answer),
        duration_seconds=answer.duration_seconds,
        first_token_seconds=answer.first_token_seconds,
    )


def explained(row: AnswerRow) -> GetAnswerResponse:
    return GetAnswerResponse(
        answer_id=row.answer_id,
        release_id=row.release_id,
        prompt_version=row.prompt_version,
        adapter=row.adapter,
        question=row.question,
        text=row.text,
        citations=[Citation(**citation) for citation in row.citations],
        refused=row.refused,
        refusal_reason=row.refusal_reason,
        usage=Usage(
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cost_micros=row.cost_micros,
        ),
        duration_seconds=row.duration_seconds,
        traceparent=row.traceparent,
    )
