"""Values of the group protocol: members, what they ask, and what they are answered."""

from dataclasses import dataclass, field
from enum import StrEnum

from kio.schema.errors import ErrorCode

Protocols = tuple[tuple[str, bytes], ...]


class GroupState(StrEnum):
    """Kafka's names of the states of a classic group."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAttempt:
    """A JoinGroup request. `assigns_id` says that the client must be told its id first."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: Protocols
    assigns_id: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAttempt:
    """A SyncGroup request; only the leader's has assignments."""

    member_id: str
    instance_id: str | None
    generation: int
    assignments: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The answer to a JoinGroup; `members` is filled for the leader alone."""

    error: ErrorCode = ErrorCode.none
    generation: int = -1
    protocol: str = ""
    leader: str = ""
    member_id: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """The answer to a SyncGroup."""

    error: ErrorCode = ErrorCode.none
    assignment: bytes = b""


@dataclass(slots=True, kw_only=True)
class Member:
    """One member as the group knows it; tickets name requests of it that still wait."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocols: Protocols
    expires_at: float
    assignment: bytes = b""
    join_ticket: object | None = field(default=None, repr=False)
    sync_ticket: object | None = field(default=None, repr=False)

    @property
    def is_waiting(self) -> bool:
        """Whether the broker owes it an answer; such a member does not expire."""
        return self.join_ticket is not None or self.sync_ticket is not None

    def update(self, now: float, attempt: JoinAttempt) -> None:
        """Takes what a member says of itself when it joins again."""
        self.client_id, self.client_host = attempt.client_id, attempt.client_host
        self.session_ms, self.rebalance_ms = attempt.session_ms, attempt.rebalance_ms
        self.protocols = attempt.protocols
        self.touch(now)

    def metadata(self, protocol: str | None) -> bytes:
        """What it said about itself under the protocol in use."""
        return dict(self.protocols).get(protocol or "", b"")

    def touch(self, now: float) -> None:
        """A sign of life: its session starts anew."""
        self.expires_at = now + self.session_ms / 1000
