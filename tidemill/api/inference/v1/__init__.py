"""Messages and services of tidemill.api.inference.v1 (generated; run `make proto`)."""

from .inference_service_pb2 import (
    Citation,
    GenerateRequest,
    GenerateResponse,
    GenerationCompleted,
    GenerationStarted,
    GetAnswerRequest,
    GetAnswerResponse,
    GetSubmissionRequest,
    GetSubmissionResponse,
    RecordFeedbackRequest,
    RecordFeedbackResponse,
)
from .inference_service_pb2_grpc import (
    InferenceServiceServicer,
    InferenceServiceStub,
)

__all__ = [
    "Citation",
    "GenerateRequest",
    "GenerateResponse",
    "GenerationCompleted",
    "GenerationStarted",
    "GetAnswerRequest",
    "GetAnswerResponse",
    "GetSubmissionRequest",
    "GetSubmissionResponse",
    "InferenceServiceServicer",
    "InferenceServiceStub",
    "RecordFeedbackRequest",
    "RecordFeedbackResponse",
]
