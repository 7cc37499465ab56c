"""Errors on purpose: one that crosses doors, and one that keeps a process from starting."""

from collections.abc import Iterator
from enum import StrEnum

import grpc


class Reason(StrEnum):
    """Names of tidemill.api.common.v1.ErrorReason without their prefix."""

    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105
    SCOPE_MISSING = "SCOPE_MISSING"
    TENANT_MISMATCH = "TENANT_MISMATCH"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    SCHEMA_INVALID = "SCHEMA_INVALID"
    MEDIA_TYPE_UNSUPPORTED = "MEDIA_TYPE_UNSUPPORTED"
    DOCUMENT_BROKEN = "DOCUMENT_BROKEN"
    DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"
    ENCODING_INVALID = "ENCODING_INVALID"
    DOCUMENT_EMPTY = "DOCUMENT_EMPTY"
    DOCUMENT_NOT_FOUND = "DOCUMENT_NOT_FOUND"
    EMBEDDING_MODEL_MISMATCH = "EMBEDDING_MODEL_MISMATCH"
    ANSWER_NOT_FOUND = "ANSWER_NOT_FOUND"
    RELEASE_NOT_FOUND = "RELEASE_NOT_FOUND"
    ADAPTER_UNAVAILABLE = "ADAPTER_UNAVAILABLE"
    NOT_FOUND = "NOT_FOUND"
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    INTERNAL = "INTERNAL"
    STORAGE_FULL = "STORAGE_FULL"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"


_STATUS = {
    Reason.TOKEN_MISSING: grpc.StatusCode.UNAUTHENTICATED,
    Reason.TOKEN_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    Reason.SCOPE_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    Reason.TENANT_MISMATCH: grpc.StatusCode.PERMISSION_DENIED,
    Reason.DOCUMENT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.ANSWER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.RELEASE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.EMBEDDING_MODEL_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.REQUEST_ID_REUSED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.ADAPTER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.DEPENDENCY_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.STORAGE_FULL: grpc.StatusCode.UNAVAILABLE,
    Reason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.REQUEST_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}

_RETRYABLE = {
    Reason.ADAPTER_UNAVAILABLE,
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.DEADLINE_EXCEEDED,
    Reason.OVERLOADED,
    Reason.STORAGE_FULL,
}


CALLERS_OWN = frozenset(
    {Reason.DEADLINE_EXCEEDED, Reason.INVALID_ARGUMENT, Reason.REQUEST_TOO_LARGE}
)
"""Reasons of a recorded answer that say nothing about the release: the caller's own time ran out,
or the caller asked for what no release can do."""


class Fault(Exception):
    """An expected failure. Metadata goes to callers and dead letters: no text of users in it."""

    def __init__(self, reason: Reason, /, **metadata: str) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.metadata = metadata
        self.retry_after: float | None = None
        """Seconds after which the server that refused wants to be asked again."""
        self.callers_time = False
        """With DEADLINE_EXCEEDED: the caller's own time ran out, not a limit of this service. It
        stays here: the next service's caller is another one."""

    @property
    def status(self) -> grpc.StatusCode:
        return _STATUS.get(self.reason, grpc.StatusCode.INVALID_ARGUMENT)

    @property
    def retryable(self) -> bool:
        """True when the same work may succeed later without a change by the caller."""
        return self.reason in _RETRYABLE


def callers_time_out() -> Fault:
    """The caller's own deadline has passed; no part of the mesh is to blame."""
    fault = Fault(Reason.DEADLINE_EXCEEDED)
    fault.callers_time = True
    return fault


def faults_in(error: BaseException) -> Iterator[Fault]:
    """The fault itself, or all of a task group's when there is nothing else in the group."""
    if isinstance(error, Fault):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        inner = [list(faults_in(each)) for each in error.exceptions]
        if all(inner):
            yield from (fault for faults in inner for fault in faults)


class StartRefused(Exception):
    """The process must not start; reason and hint are for the person who started it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(f"{reason}: {hint}")
        self.reason = reason
        self.hint = hint
