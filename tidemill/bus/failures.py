"""What a failed try of a delivery means, and whether there is another."""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum

from tidemill.backoff import Backoff
from tidemill.db.rivals import BACKOFF as RACE_BACKOFF
from tidemill.db.rivals import MOST_LOST, is_rival
from tidemill.faults import Fault, Reason, faults_in

DELIVERY_BACKOFF = Backoff(0.2, 8.0)
LATE_SECONDS = 1.0


class Kind(Enum):
    """FINAL: no try can heal it. HANDLER_ERROR: a bug of the handler. HANG: a try took all its
    time. DEPENDENCY: something that the handler needs is unavailable. CONFLICT: another
    transaction won, which is nobody's failure."""

    FINAL = "final"
    HANDLER_ERROR = "handler_error"
    HANG = "hang"
    DEPENDENCY = "dependency"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class Failure:
    """One failed try of a delivery."""

    fault: Fault
    kind: Kind


def failure_of(error: BaseException, *, hung: bool = False) -> Failure:
    """A fault as the handler raised it; a hang or a bug is the handler's own and tried few times.

    A hang must not count as a dependency's: one document that never ends would hold its
    neighbours for as long as an outage may last.
    """
    faults = list(faults_in(error))
    if faults:
        fault = next((f for f in faults if not f.retryable), faults[0])
        return Failure(fault, kind_of(fault))
    if isinstance(error, TimeoutError):
        kind = Kind.HANG if hung else Kind.HANDLER_ERROR
        return Failure(Fault(Reason.DEADLINE_EXCEEDED, by="handler"), kind)
    fault = Fault(Reason.INTERNAL, error_type=type(error).__name__)
    return Failure(fault, Kind.HANDLER_ERROR)


def kind_of(fault: Fault) -> Kind:
    if is_rival(fault):
        return Kind.CONFLICT
    return Kind.DEPENDENCY if fault.retryable else Kind.FINAL


def timer_fired_late(limit: asyncio.Timeout) -> bool:
    """Whether the timeout came late, as it does for a process that was frozen or got no processor:
    then it says nothing about the handler."""
    return asyncio.get_running_loop().time() - (limit.when() or 0.0) > LATE_SECONDS


@dataclass
class Tries:
    """Of one delivery. began: monotonic time of the first; own: failures of the handler's own."""

    began: float
    count: int = 0
    own: int = 0
    lost: int = 0

    def note(self, failure: Failure) -> None:
        """Waiting for a dependency uses up none of the handler's own tries, nor does a conflict."""
        self.count += 1
        self.own += failure.kind not in (Kind.DEPENDENCY, Kind.CONFLICT)
        self.lost += failure.kind is Kind.CONFLICT


@dataclass(frozen=True)
class RetryPolicy:
    """attempts: tries of a handler that fails by itself. hang_seconds: a handler that hangs is
    tried again only if that try ends within this time of the first one's start. hold_seconds:
    how long a delivery waits for a dependency (model server, vector store, database) before it is
    dead-lettered."""

    attempts: int = 3
    hang_seconds: float = 5.0
    backoff: Backoff = DELIVERY_BACKOFF
    hold_seconds: float = 15 * 60

    def again(self, failure: Failure, tries: Tries, now: float, timeout: float = 0.0) -> bool:
        """Whether to try once more, at the monotonic time now. timeout: seconds that the next try
        may take."""
        elapsed = now - tries.began
        if failure.kind is Kind.CONFLICT and tries.lost <= MOST_LOST:
            return True
        if failure.kind in (Kind.DEPENDENCY, Kind.CONFLICT):
            return elapsed < self.hold_seconds
        longest = elapsed + self.backoff.bound(tries.own) + timeout
        if failure.kind is Kind.HANG and longest > self.hang_seconds:
            return False
        return failure.kind is not Kind.FINAL and tries.own < self.attempts

    def pause(self, failure: Failure, tries: Tries) -> float:
        """Seconds until the next try."""
        if failure.kind is Kind.CONFLICT:
            return RACE_BACKOFF.delay(tries.lost)
        return self.backoff.delay(tries.count)


@dataclass(frozen=True)
class Trip:
    """How many dead letters were too many; unit says what is counted."""

    measured: float
    limit: float
    unit: str


class DlqCircuitBreaker:
    """Stops a consumer that dead-letters too much: a bad deploy must not empty a topic into its
    dead letters. It trips at `in_a_row`, or when more than `share` of the last `window` were
    dead-lettered."""

    def __init__(self, in_a_row: int = 100, window: int = 1000, share: float = 0.1) -> None:
        self._limit = in_a_row
        self._in_a_row = 0
        self._share = share
        self._recent: deque[bool] = deque(maxlen=window)
        self._dead = 0
        self.trip: Trip | None = None

    def applied(self) -> None:
        self._in_a_row = 0
        self._add(False)

    def dead_lettered(self) -> None:
        self._in_a_row += 1
        self._add(True)

    def _add(self, dead: bool) -> None:
        if len(self._recent) == self._recent.maxlen:
            self._dead -= self._recent[0]
        self._recent.append(dead)
        self._dead += dead
        self.trip = self.trip or self._tripped()

    def _tripped(self) -> Trip | None:
        if self._in_a_row >= self._limit:
            return Trip(self._in_a_row, self._limit, "dead_letters_in_a_row")
        full = len(self._recent) == self._recent.maxlen
        if full and self._dead > self._share * len(self._recent):
            share = self._dead / len(self._recent)
            return Trip(share, self._share, "dead_letter_share")
        return None

    @property
    def tripped(self) -> bool:
        """Once true it stays true."""
        return self.trip is not None


class NoBreaker(DlqCircuitBreaker):
    """For an operator who lets a stretch of bad events pass into the dead letters."""

    @property
    def tripped(self) -> bool:
        return False
