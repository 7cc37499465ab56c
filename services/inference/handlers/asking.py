"""A request becomes a question: within bounds, allowed, and free of personal data."""

from services.inference.domain.answer import Question
from tidemill.api.inference.v1 import GenerateRequest
from tidemill.faults import Fault, Reason
from tidemill.security.personal_data import mask
from tidemill.security.tokens import Caller

EVALUATE_SCOPE = "releases:evaluate"
MAX_QUESTION_CHARS = 2_000
MAX_USER_ID_CHARS = 200
MAX_OUTPUT_TOKENS = 512


def question_of(caller: Caller, request: GenerateRequest, default_output_tokens: int) -> Question:
    """The question; Fault(INVALID_ARGUMENT) with the field, or Fault(SCOPE_MISSING)."""
    problems = {
        "question": not 0 < len(request.question.strip()) <= MAX_QUESTION_CHARS,
        "end_user_id": len(request.end_user_id) > MAX_USER_ID_CHARS,
        "max_output_tokens": not 0 <= request.max_output_tokens <= MAX_OUTPUT_TOKENS,
        "release_id": len(request.release_id) > MAX_USER_ID_CHARS,
    }
    for field, wrong in problems.items():
        if wrong:
            raise Fault(Reason.INVALID_ARGUMENT, field=field)
    if request.release_id:
        caller.require(EVALUATE_SCOPE)
    return Question(
        tenant_id=caller.tenant_id,
        text=mask(request.question.strip()).text,
        end_user_id=request.end_user_id,
        max_output_tokens=request.max_output_tokens or default_output_tokens,
        release_id=request.release_id,
    )
