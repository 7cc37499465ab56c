"""Faults to google.rpc.Status and back."""

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidemill.faults import Fault, Reason

DOMAIN = "tidemill"
DETAILS = "grpc-status-details-bin"

# Statuses that the transport itself gives, without our details.
_TRANSPORT = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE: Reason.DEPENDENCY_UNAVAILABLE,
    grpc.StatusCode.CANCELLED: Reason.DEPENDENCY_UNAVAILABLE,
    grpc.StatusCode.ABORTED: Reason.DEPENDENCY_UNAVAILABLE,
}


def to_status(fault: Fault) -> grpc.Status:
    """Status with an ErrorInfo; the message is the reason, never an exception's text."""
    info = error_details_pb2.ErrorInfo(reason=fault.reason.value, domain=DOMAIN)
    info.metadata.update({name: str(value) for name, value in fault.metadata.items()})
    detail = any_pb2.Any()
    detail.Pack(info)
    code = code_pb2.Code.Value(fault.status.name)
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code, message=fault.reason.value, details=[detail])
    )
    return status


def from_error(error: grpc.aio.AioRpcError) -> Fault:
    """The fault behind an RPC error.

    A server that is not there or went away is DEPENDENCY_UNAVAILABLE and may be tried again; an
    error that neither the transport nor a Tidemill service explains is INTERNAL.
    """
    info = error_info(error)
    if info is not None and info.reason in Reason.__members__:
        return Fault(Reason(info.reason), **dict(info.metadata))
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        too_large = "larger than max" in (error.details() or "")
        return Fault(Reason.REQUEST_TOO_LARGE if too_large else Reason.OVERLOADED)
    reason = _TRANSPORT.get(error.code(), Reason.INTERNAL)
    if reason is Reason.DEADLINE_EXCEEDED:
        return Fault(reason)
    return Fault(reason, status=error.code().name)


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """Our ErrorInfo in the trailers; None when there is none that can be read."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS:
            return parse_info(value if isinstance(value, bytes) else value.encode())
    return None


def parse_info(raw: bytes) -> error_details_pb2.ErrorInfo | None:
    info = error_details_pb2.ErrorInfo()
    try:
        details = status_pb2.Status.FromString(raw).details
        if any(detail.Unpack(info) for detail in details) and info.domain == DOMAIN:
            return info
    except DecodeError:
        return None
    return None
