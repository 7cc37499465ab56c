"""Messages and services of tidemill.api.evaluator.v1 (generated; run `make proto`)."""

from .evaluator_service_pb2 import (
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
)
from .evaluator_service_pb2_grpc import (
    EvaluatorServiceServicer,
    EvaluatorServiceStub,
)

__all__ = [
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
]
