"""Messages and services of tidemill.api.evaluator.v1 (generated; run `make proto`)."""

from .evaluator_service_pb2 import (
    CompareAnswersRequest,
    CompareAnswersResponse,
    CreateSuiteRequest,
    CreateSuiteResponse,
    GetEvaluationRequest,
    GetEvaluationResponse,
    ListReleasesRequest,
    ListReleasesResponse,
    ReleaseRecord,
    RollBackReleaseRequest,
    RollBackReleaseResponse,
    Sample,
    SampleAnswer,
)
from .evaluator_service_pb2_grpc import (
    EvaluatorServiceServicer,
    EvaluatorServiceStub,
)

__all__ = [
    "CompareAnswersRequest",
    "CompareAnswersResponse",
    "CreateSuiteRequest",
    "CreateSuiteResponse",
    "EvaluatorServiceServicer",
    "EvaluatorServiceStub",
    "GetEvaluationRequest",
    "GetEvaluationResponse",
    "ListReleasesRequest",
    "ListReleasesResponse",
    "ReleaseRecord",
    "RollBackReleaseRequest",
    "RollBackReleaseResponse",
    "Sample",
    "SampleAnswer",
]
