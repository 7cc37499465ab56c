"""Faults to google.rpc.Status and back."""

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidemill.faults import Fault, Reason

DOMAIN = "tidemill"
DETAILS = "grpc-status-details-bin"
RETRY_AFTER_MS = 1_000
"""What an overloaded server hints at when it says nothing else."""

# Statuses that the transport itself gives, without our details.
_TRANSPORT = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE: Reason.DEPENDENCY_UNAVAILABLE,
    grpc.StatusCode.CANCELLED: Reason.DEPENDENCY_UNAVAILABLE,
    grpc.StatusCode.ABORTED: Reason.DEPENDENCY_UNAVAILABLE,
}


def to_status(fault: Fault) -> grpc.Status:
    """Status with an ErrorInfo, and a RetryInfo when overloaded; the message is the reason, never
    an exception's text."""
    info = error_details_pb2.ErrorInfo(reason=fault.reason.value, domain=DOMAIN)
    info.metadata.update({name: str(value) for name, value in fault.metadata.items()})
    details = [packed(info)]
    if fault.reason is Reason.OVERLOADED:
        details.append(packed(retry_info(fault)))
    code = code_pb2.Code.Value(fault.status.name)
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code, message=fault.reason.value, details=details)
    )
    return status


def retry_info(fault: Fault) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    milliseconds = int(fault.metadata.get("retry_after_ms", RETRY_AFTER_MS))
    info.retry_delay.FromMilliseconds(milliseconds)
    return info


def packed(message: Message) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail


def from_error(error: grpc.aio.AioRpcError) -> Fault:
    """The fault behind an RPC error.

    A server that is not there or went away is DEPENDENCY_UNAVAILABLE and may be tried again; an
    error that neither the transport nor a Tidemill service explains is INTERNAL.
    """
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = details_of(error, info, retry)
    fault = explained(info) or transport_fault(error)
    if retry in found:
        fault.retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return fault


def explained(info: error_details_pb2.ErrorInfo) -> Fault | None:
    """The fault of a Tidemill service; None when it is no service's of ours."""
    if info.domain == DOMAIN and info.reason in Reason.__members__:
        return Fault(Reason(info.reason), **dict(info.metadata))
    return None


def transport_fault(error: grpc.aio.AioRpcError) -> Fault:
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        too_large = "larger than max" in (error.details() or "")
        return Fault(Reason.REQUEST_TOO_LARGE if too_large else Reason.OVERLOADED)
    reason = _TRANSPORT.get(error.code(), Reason.INTERNAL)
    if reason is Reason.DEADLINE_EXCEEDED:
        return Fault(reason)
    return Fault(reason, status=error.code().name)


def details_of(error: grpc.aio.AioRpcError, *wanted: Message) -> list[Message]:
    """Fills the messages from the status's details in the trailers; returns those found there."""
    raw = next((v for k, v in error.trailing_metadata() or () if k == DETAILS), b"")
    try:
        status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
        return [one for one in wanted if any(detail.Unpack(one) for detail in status.details)]
    except DecodeError:
        return []
