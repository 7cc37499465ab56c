"""Messages and services of tidemill.api.trainer.v1 (generated; run `make proto`)."""

from .trainer_service_pb2 import (
    GetLineageRequest,
    GetLineageResponse,
    GetTriggerRequest,
    GetTriggerResponse,
    ListRunsRequest,
    ListRunsResponse,
    RUN_STATE_FAILED,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    RUN_STATE_UNSPECIFIED,
    Run,
    RunState,
)
from .trainer_service_pb2_grpc import (
    TrainerServiceServicer,
    TrainerServiceStub,
)

__all__ = [
    "GetLineageRequest",
    "GetLineageResponse",
    "GetTriggerRequest",
    "GetTriggerResponse",
    "ListRunsRequest",
    "ListRunsResponse",
    "RUN_STATE_FAILED",
    "RUN_STATE_RUNNING",
    "RUN_STATE_SUCCEEDED",
    "RUN_STATE_UNSPECIFIED",
    "Run",
    "RunState",
    "TrainerServiceServicer",
    "TrainerServiceStub",
]
