"""How often and how long a delivery is tried, and when a consumer stops by itself."""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from tidemill.backoff import Backoff
from tidemill.faults import Fault

DELIVERY_BACKOFF = Backoff(0.2, 15.0)


class Kind(Enum):
    """FINAL: no try can heal it. OWN: the handler's doing. HANG: a try took all its time.
    DEPENDENCY: a part it needs is down."""

    FINAL = "final"
    OWN = "own"
    HANG = "hang"
    DEPENDENCY = "dependency"


@dataclass(frozen=True)
class Failure:
    """One failed try of a delivery."""

    fault: Fault
    kind: Kind


@dataclass(frozen=True)
class RetryPolicy:
    """attempts: tries of a handler that fails by itself. hang_seconds: a handler that hangs is
    tried again only if that try ends within this time of the first one's start. hold_seconds:
    how long a delivery waits for a part that is down (model server, vector store, database)
    before it is parked."""

    attempts: int = 3
    hang_seconds: float = 5.0
    backoff: Backoff = DELIVERY_BACKOFF
    hold_seconds: float = 15 * 60

    def again(self, failure: Failure, own: int, elapsed: float, timeout: float = 0.0) -> bool:
        """Whether to try once more. own: failed tries that were the handler's own doing;
        elapsed: seconds since the first try began; timeout: seconds that the next may take."""
        if failure.kind is Kind.DEPENDENCY:
            return elapsed < self.hold_seconds
        longest = elapsed + self.backoff.bound(own) + timeout
        if failure.kind is Kind.HANG and longest > self.hang_seconds:
            return False
        return failure.kind is not Kind.FINAL and own < self.attempts


@dataclass(frozen=True)
class Flood:
    """How many dead letters were too many; unit says what is counted."""

    measured: float
    limit: float
    unit: str


class FloodBrake:
    """Stops a consumer that parks too much: a bad deploy must not empty a topic into its dead
    letters. It trips at `in_a_row`, or when more than `share` of the last `window` were parked."""

    def __init__(self, in_a_row: int = 100, window: int = 1000, share: float = 0.1) -> None:
        self._limit = in_a_row
        self._in_a_row = 0
        self._share = share
        self._recent: deque[bool] = deque(maxlen=window)
        self.flood: Flood | None = None

    def applied(self) -> None:
        self._in_a_row = 0
        self._add(False)

    def parked(self) -> None:
        self._in_a_row += 1
        self._add(True)

    def _add(self, parked: bool) -> None:
        self._recent.append(parked)
        self.flood = self.flood or self._flood()

    def _flood(self) -> Flood | None:
        if self._in_a_row >= self._limit:
            return Flood(self._in_a_row, self._limit, "dead_letters_in_a_row")
        full = len(self._recent) == self._recent.maxlen
        if full and sum(self._recent) > self._share * len(self._recent):
            share = sum(self._recent) / len(self._recent)
            return Flood(share, self._share, "dead_letter_share")
        return None

    @property
    def tripped(self) -> bool:
        """Once true it stays true."""
        return self.flood is not None


class NoBrake(FloodBrake):
    """For an operator who lets a stretch of bad events pass into the dead letters."""

    @property
    def tripped(self) -> bool:
        return False
