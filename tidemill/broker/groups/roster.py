"""The members of a group and what follows from who they are."""

from collections import Counter

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.member import JoinAttempt, Member


class Roster:
    """Members by id, in order of arrival, and the one that leads them."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.leader: str | None = None
        self.protocol_type: str | None = None

    def add(self, now: float, member_id: str, attempt: JoinAttempt) -> Member:
        """A new member; the first one leads."""
        member = Member(
            member_id=member_id,
            instance_id=attempt.instance_id,
            client_id=attempt.client_id,
            client_host=attempt.client_host,
            session_ms=attempt.session_ms,
            rebalance_ms=attempt.rebalance_ms,
            protocols=attempt.protocols,
            expires_at=now + attempt.session_ms / 1000,
        )
        self.members[member_id] = member
        self.protocol_type = attempt.protocol_type
        self.leader = self.leader or member_id
        return member

    def remove(self, member_id: str) -> None:
        """A member is gone; if it led, the next one does."""
        self.members.pop(member_id, None)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def rename(self, member: Member, member_id: str) -> None:
        """A static member came back: it keeps its place under a new id."""
        del self.members[member.member_id]
        if self.leader == member.member_id:
            self.leader = member_id
        member.member_id = member_id
        self.members[member_id] = member

    def known(self, member_id: str, instance_id: str | None) -> Member:
        """The member; RequestRefused if unknown, or if another took over its instance."""
        if instance_id is not None:
            static = self.static(instance_id)
            if static is not None and static.member_id != member_id:
                raise RequestRefused(ErrorCode.fenced_instance_id)
        member = self.members.get(member_id)
        if member is None:
            raise RequestRefused(ErrorCode.unknown_member_id)
        return member

    def static(self, instance_id: str) -> Member | None:
        """The member with this instance id."""
        return next((m for m in self.members.values() if m.instance_id == instance_id), None)

    def present(self) -> list[Member]:
        """Members that wait for the next generation."""
        return [m for m in self.members.values() if m.join_ticket is not None]

    def lead_by_one_of(self, present: list[Member]) -> None:
        """Makes sure that the leader is among those that joined."""
        if self.leader not in {member.member_id for member in present}:
            self.leader = present[0].member_id if present else None

    def check_protocols(self, attempt: JoinAttempt) -> None:
        """RequestRefused if the newcomer and the others could not agree on a protocol."""
        names = {name for name, _ in attempt.protocols}
        others = [m for m in self.members.values() if m.member_id != attempt.member_id]
        fits = bool(attempt.protocol_type and names)
        if fits and others:
            is_same_type = attempt.protocol_type == self.protocol_type
            fits = is_same_type and bool(names & _common_protocols(others))
        if not fits:
            raise RequestRefused(ErrorCode.inconsistent_group_protocol)

    def vote(self) -> str:
        """The protocol that most members prefer among those that all support."""
        common = _common_protocols(list(self.members.values()))
        votes = Counter(
            next(name for name, _ in member.protocols if name in common)
            for member in self.members.values()
        )
        return votes.most_common(1)[0][0]

    def longest_rebalance(self) -> float:
        """Seconds that the slowest member may take to join again."""
        return max((m.rebalance_ms for m in self.members.values()), default=0) / 1000

    def roll_call(self, protocol: str) -> tuple[tuple[str, str | None, bytes], ...]:
        """What the leader is told about everyone."""
        return tuple(
            (m.member_id, m.instance_id, m.metadata(protocol)) for m in self.members.values()
        )


def _common_protocols(members: list[Member]) -> set[str]:
    return set.intersection(*({name for name, _ in m.protocols} for m in members))
