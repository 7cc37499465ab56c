"""Faults to google.rpc.Status and back."""

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidemill.faults import Fault, Reason

DOMAIN = "tidemill"


def to_status(fault: Fault) -> grpc.Status:
    """Status with an ErrorInfo; the message is the reason, never an exception's text."""
    info = error_details_pb2.ErrorInfo(reason=fault.reason.value, domain=DOMAIN)
    info.metadata.update(fault.metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    code = code_pb2.Code.Value(fault.status.name)
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code, message=fault.reason.value, details=[detail])
    )
    return status


def from_error(error: grpc.aio.AioRpcError) -> Fault:
    """The fault behind an RPC error; transport errors become DEPENDENCY_UNAVAILABLE."""
    info = error_info(error)
    if info is not None and info.reason in Reason.__members__:
        return Fault(Reason(info.reason), **dict(info.metadata))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Fault(Reason.DEADLINE_EXCEEDED)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Fault(Reason.REQUEST_TOO_LARGE)
    return Fault(Reason.DEPENDENCY_UNAVAILABLE, status=error.code().name)


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            raw = value if isinstance(value, bytes) else value.encode()
            for detail in status_pb2.Status.FromString(raw).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info
    return None
