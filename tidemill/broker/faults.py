"""Fault hooks for tests: the next requests of an API are delayed, refused or cut off."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from kio.schema.errors import ErrorCode

from tidemill.broker.wire.requests import Request
from tidemill.broker.wire.versions import Api


class Drop(Enum):
    """When the connection is cut: before the request has any effect, after all of it, or with
    half of the answer written."""

    BEFORE = "before"
    AFTER = "after"
    HALFWAY = "halfway"


@dataclass(slots=True, kw_only=True)
class Fault:
    """What to do to matching requests; `times` counts down, None means every one.

    First the delay, then the drop or the error. An error is answered without any effect, unless
    `is_applied`: then the request is done first, and delayed or refused afterwards.
    """

    api: Api
    error: ErrorCode | None = None
    delay_seconds: float = 0.0
    drop: Drop | None = None
    is_applied: bool = False
    times: int | None = 1
    matches: Callable[[Request], bool] = field(default=lambda _: True)
    hits: int = 0


class Faults:
    """The faults in force; empty in normal operation."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Puts a fault in force; the first that matches a request is applied to it."""
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Takes a fault out of force."""
        if fault in self._faults:
            self._faults.remove(fault)

    def take(self, request: Request) -> Fault | None:
        """The fault to apply to this request, counted as used."""
        for fault in self._faults:
            if fault.api is request.api and fault.matches(request):
                fault.hits += 1
                if fault.times is not None and fault.hits >= fault.times:
                    self.remove(fault)
                return fault
        return None
