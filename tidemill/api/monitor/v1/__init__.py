"""Messages and services of tidemill.api.monitor.v1 (generated; run `make proto`)."""

from .monitor_service_pb2 import (
    GetUsageRequest,
    GetUsageResponse,
    ListAlertsRequest,
    ListAlertsResponse,
    ReleaseUsage,
    SetBudgetRequest,
    SetBudgetResponse,
)
from .monitor_service_pb2_grpc import (
    MonitorServiceServicer,
    MonitorServiceStub,
)

__all__ = [
    "GetUsageRequest",
    "GetUsageResponse",
    "ListAlertsRequest",
    "ListAlertsResponse",
    "MonitorServiceServicer",
    "MonitorServiceStub",
    "ReleaseUsage",
    "SetBudgetRequest",
    "SetBudgetResponse",
]
