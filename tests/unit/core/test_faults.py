"""Reasons are the contract's, and each has a status."""

import grpc
import pytest
from google.rpc import code_pb2

from tidemill.api.common.v1 import ErrorReason
from tidemill.faults import Fault, Reason, faults_in
from tidemill.rpc.errors import DETAILS, from_error, to_status


def test_every_reason_of_the_contract_has_a_name_in_the_code() -> None:
    named = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    assert named - {"UNSPECIFIED"} == {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", Reason)
def test_a_fault_survives_the_wire(reason: Reason) -> None:
    status = to_status(Fault(reason, field="name", reason="odd key"))
    error = grpc.aio.AioRpcError(
        status.code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*status.trailing_metadata),
        details=status.details,
    )
    fault = from_error(error)
    assert fault.reason is reason
    assert fault.metadata == {"field": "name", "reason": "odd key"}
    assert status.code.value[0] == code_pb2.Code.Value(status.code.name)


@pytest.mark.parametrize(
    ("code", "text", "reason", "retryable"),
    [
        (grpc.StatusCode.UNAVAILABLE, "", Reason.DEPENDENCY_UNAVAILABLE, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Reason.DEADLINE_EXCEEDED, True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit", Reason.OVERLOADED, True),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Received message larger than max (9 vs. 4)",
            Reason.REQUEST_TOO_LARGE,
            False,
        ),
        (grpc.StatusCode.UNIMPLEMENTED, "", Reason.INTERNAL, False),
        (grpc.StatusCode.UNKNOWN, "secret", Reason.INTERNAL, False),
    ],
)
def test_errors_of_the_transport_become_faults(
    code: grpc.StatusCode, text: str, reason: Reason, retryable: bool
) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)
    fault = from_error(error)
    assert (fault.reason, fault.retryable) == (reason, retryable)
    assert "secret" not in str(fault.metadata)


def test_details_that_cannot_be_read_do_not_hide_the_status() -> None:
    trailers = grpc.aio.Metadata((DETAILS, b"\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailers)
    assert from_error(error).reason is Reason.DEPENDENCY_UNAVAILABLE


def test_a_groups_faults_are_found_only_when_there_is_nothing_else() -> None:
    fault = Fault(Reason.OVERLOADED)
    inner = ExceptionGroup("inner", [fault, fault])
    assert list(faults_in(ExceptionGroup("both", [fault, inner]))) == [fault] * 3
    assert list(faults_in(ExceptionGroup("mixed", [fault, ValueError()]))) == []
