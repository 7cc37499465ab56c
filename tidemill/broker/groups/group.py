"""The classic consumer group as a state machine: no clock, no I/O, no waiting inside.

Callers pass the time in seconds and a ticket for each request that may have to wait; answers
come out of `take_answers`, at once or after a later call.
"""

from collections.abc import Callable

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.member import (
    GroupState,
    JoinAttempt,
    Joined,
    Member,
    SyncAttempt,
    Synced,
)
from tidemill.broker.groups.roster import Roster

Answer = tuple[object, Joined | Synced]


class Group:
    """One group. Methods raise RequestRefused with the code Apache Kafka answers."""

    def __init__(
        self,
        group_id: str,
        *,
        initial_delay: float,
        max_members: int,
        new_member_id: Callable[[str], str],
    ) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol: str | None = None
        self.roster = Roster()
        self.has_changed = False
        self._initial_delay = initial_delay
        self._max_members = max_members
        self._new_member_id = new_member_id
        self._announced: dict[str, float] = {}
        self._unsynced: set[str] = set()
        self._delay_until: float | None = None
        self._barrier_at = 0.0
        self._sync_by = 0.0
        self._answers: list[Answer] = []

    @property
    def members(self) -> dict[str, Member]:
        """Members by id."""
        return self.roster.members

    # -- requests

    def join(self, now: float, attempt: JoinAttempt, ticket: object) -> None:
        """A member asks to be in the next generation; the answer comes through its ticket."""
        try:
            self.roster.check_protocols(attempt)
            if attempt.member_id:
                self._join_known(now, attempt, ticket)
            else:
                self._join_unknown(now, attempt, ticket)
        except RequestRefused as refused:
            self._answer(ticket, Joined(error=refused.code, member_id=attempt.member_id))

    def sync(self, now: float, attempt: SyncAttempt, ticket: object) -> None:
        """A member asks for its share; the leader brings everyone's."""
        try:
            member = self.roster.known(attempt.member_id, attempt.instance_id)
            self._check_generation(attempt.generation)
            if self.state is GroupState.PREPARING:
                raise RequestRefused(ErrorCode.rebalance_in_progress)
        except RequestRefused as refused:
            self._answer(ticket, Synced(error=refused.code))
            return
        member.touch(now)
        self._unsynced.discard(member.member_id)
        self._refuse_sync(now, member, ErrorCode.rebalance_in_progress)
        member.sync_ticket = ticket
        if self.state is GroupState.COMPLETING and member.member_id == self.roster.leader:
            self._assign(attempt.assignments)
        if self.state is GroupState.STABLE:
            self._hand_out(now)

    def heartbeat(
        self, now: float, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """A sign of life; REBALANCE_IN_PROGRESS tells the member to join again."""
        member = self.roster.known(member_id, instance_id)
        self._check_generation(generation)
        member.touch(now)
        if self.state is GroupState.PREPARING:
            raise RequestRefused(ErrorCode.rebalance_in_progress)

    def leave(self, now: float, member_id: str, instance_id: str | None) -> None:
        """A member goes for good; a static one may be named by its instance alone."""
        if member_id in self._announced:
            del self._announced[member_id]
            self._maybe_complete(now)
            return
        static = self.roster.static(instance_id) if instance_id and not member_id else None
        self._remove(now, static or self.roster.known(member_id, instance_id))

    def check_commit(
        self, now: float, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """Whether offsets may be committed: yes while preparing, no while completing."""
        if generation < 0 and not self.members:
            return
        member = self.roster.known(member_id, instance_id)
        self._check_generation(generation)
        member.touch(now)
        if self.state is GroupState.COMPLETING:
            raise RequestRefused(ErrorCode.rebalance_in_progress)

    def check_transactional_commit(
        self, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """The same for a producer that commits for a member; it is no sign of its life."""
        if generation < 0 and not member_id and instance_id is None:
            return
        self.roster.known(member_id, instance_id)
        self._check_generation(generation)

    # -- time

    def next_deadline(self) -> float | None:
        """When `tick` has something to do at the earliest."""
        deadlines = [m.expires_at for m in self.members.values() if not m.is_waiting]
        deadlines += self._announced.values()
        if self.state is GroupState.PREPARING:
            deadlines.append(self._barrier_at if self._delay_until is None else self._delay_until)
        if self._unsynced:
            deadlines.append(self._sync_by)
        return min(deadlines, default=None)

    def tick(self, now: float) -> None:
        """Does all that is due: expiries, the join barrier, members that never synced."""
        self._announced = {m: at for m, at in self._announced.items() if at > now}
        for member in list(self.members.values()):
            if member.expires_at <= now and not member.is_waiting:
                self._remove(now, member)
        if now >= self._sync_by:
            self._remove_unsynced(now)
        if self._delay_until is not None and now >= self._delay_until:
            self._delay_until = None
        is_held_up = self.state is GroupState.PREPARING and self._delay_until is None
        if is_held_up and now >= self._barrier_at:
            self._complete(now)
        self._maybe_complete(now)

    def take_answers(self) -> list[Answer]:
        """Answers that became ready, with the tickets they belong to."""
        answers, self._answers = self._answers, []
        return answers

    # -- joining

    def _join_unknown(self, now: float, attempt: JoinAttempt, ticket: object) -> None:
        static = self.roster.static(attempt.instance_id) if attempt.instance_id else None
        if static is not None:
            self._replace_static(now, static, attempt, ticket)
            return
        if len(self.members) + len(self._announced) >= self._max_members:
            raise RequestRefused(ErrorCode.group_max_size_reached)
        member_id = self._new_member_id(attempt.instance_id or attempt.client_id)
        if attempt.assigns_id and attempt.instance_id is None:
            self._announced[member_id] = now + attempt.session_ms / 1000
            told = Joined(error=ErrorCode.member_id_required, member_id=member_id)
            self._answer(ticket, told)
        else:
            self._add(now, member_id, attempt, ticket)

    def _join_known(self, now: float, attempt: JoinAttempt, ticket: object) -> None:
        if self._announced.pop(attempt.member_id, None) is not None:
            self._add(now, attempt.member_id, attempt, ticket)
            return
        member = self.roster.known(attempt.member_id, attempt.instance_id)
        leads_stable = self.state is GroupState.STABLE and member.member_id == self.roster.leader
        is_changed = member.protocols != attempt.protocols
        if self.state is GroupState.PREPARING or leads_stable or is_changed:
            self._rejoin(now, member, attempt, ticket)
            return
        member.touch(now)
        self._answer(ticket, self._joined(member))

    def _add(self, now: float, member_id: str, attempt: JoinAttempt, ticket: object) -> None:
        member = self.roster.add(now, member_id, attempt)
        if self._delay_until is not None:
            self._delay_until = min(now + self._initial_delay, self._barrier_at)
        self._rejoin(now, member, attempt, ticket)

    def _rejoin(self, now: float, member: Member, attempt: JoinAttempt, ticket: object) -> None:
        self._refuse_join(now, member, ErrorCode.rebalance_in_progress)
        member.update(now, attempt)
        member.join_ticket = ticket
        self._prepare(now)

    def _replace_static(
        self, now: float, member: Member, attempt: JoinAttempt, ticket: object
    ) -> None:
        old_id, old_leader = member.member_id, self.roster.leader
        self._refuse_join(now, member, ErrorCode.fenced_instance_id)
        self._refuse_sync(now, member, ErrorCode.fenced_instance_id)
        self.roster.rename(member, self._new_member_id(attempt.instance_id or ""))
        if old_id in self._unsynced:
            self._unsynced.remove(old_id)
            self._unsynced.add(member.member_id)
        member.update(now, attempt)
        if self.state is GroupState.STABLE and self.roster.vote() == self.protocol:
            # Nothing is assigned anew. A client that saw itself as leader would assign again,
            # so a returned leader is shown its old id.
            self.has_changed = True
            self._answer(ticket, self._joined_as_follower(member, old_leader))
        else:
            self._rejoin(now, member, attempt, ticket)

    # -- rebalancing

    def _prepare(self, now: float) -> None:
        if self.state is not GroupState.PREPARING:
            for member in self.members.values():
                self._refuse_sync(now, member, ErrorCode.rebalance_in_progress)
            self._unsynced.clear()
            is_first = self.state is GroupState.EMPTY and self._initial_delay > 0
            self._delay_until = now + self._initial_delay if is_first else None
            self._barrier_at = now + self.roster.longest_rebalance()
            self.state = GroupState.PREPARING
        self._maybe_complete(now)

    def _maybe_complete(self, now: float) -> None:
        if self.state is not GroupState.PREPARING:
            return
        if not self.members and not self._announced:
            self._delay_until = None
        everyone_is_here = len(self.roster.present()) == len(self.members)
        if self._delay_until is None and everyone_is_here and not self._announced:
            self._complete(now)

    def _complete(self, now: float) -> None:
        present = self.roster.present()
        for member in list(self.members.values()):
            if member.join_ticket is None and member.instance_id is None:
                self.roster.remove(member.member_id)
        if self.members and not present:
            # Only static members that have not come back yet: their places are kept.
            self._barrier_at = now + self.roster.longest_rebalance()
            return
        self.roster.lead_by_one_of(present)
        self.generation += 1
        if self.members:
            self._begin_generation(now)
        else:
            self.state = GroupState.EMPTY
            self.protocol = None
            self.has_changed = True

    def _begin_generation(self, now: float) -> None:
        self.state = GroupState.COMPLETING
        self.protocol = self.roster.vote()
        self._sync_by = now + self.roster.longest_rebalance()
        self._unsynced = set(self.members)
        for member in self.members.values():
            member.touch(now)
            ticket, member.join_ticket = member.join_ticket, None
            if ticket is not None:
                self._answer(ticket, self._joined(member))

    def _assign(self, assignments: dict[str, bytes]) -> None:
        for member in self.members.values():
            member.assignment = assignments.get(member.member_id, b"")
        self.state = GroupState.STABLE
        self.has_changed = True

    def _hand_out(self, now: float) -> None:
        for member in self.members.values():
            ticket, member.sync_ticket = member.sync_ticket, None
            if ticket is not None:
                member.touch(now)
                self._answer(ticket, Synced(assignment=member.assignment))

    def _remove(self, now: float, member: Member) -> None:
        self._unsynced.discard(member.member_id)
        self._refuse_join(now, member, ErrorCode.unknown_member_id)
        self._refuse_sync(now, member, ErrorCode.unknown_member_id)
        self.roster.remove(member.member_id)
        self._prepare(now)

    def _remove_unsynced(self, now: float) -> None:
        for member_id in list(self._unsynced):
            member = self.members.get(member_id)
            if member is not None and member_id in self._unsynced:
                self._remove(now, member)

    # -- answers

    def _check_generation(self, generation: int) -> None:
        if generation != self.generation:
            raise RequestRefused(ErrorCode.illegal_generation)

    def _joined(self, member: Member) -> Joined:
        if member.member_id != self.roster.leader:
            return self._joined_as_follower(member, self.roster.leader)
        return Joined(
            generation=self.generation,
            protocol=self.protocol or "",
            leader=member.member_id,
            member_id=member.member_id,
            members=self.roster.roll_call(self.protocol or ""),
        )

    def _joined_as_follower(self, member: Member, leader: str | None) -> Joined:
        return Joined(
            generation=self.generation,
            protocol=self.protocol or "",
            leader=leader or "",
            member_id=member.member_id,
        )

    def _refuse_join(self, now: float, member: Member, error: ErrorCode) -> None:
        ticket, member.join_ticket = member.join_ticket, None
        if ticket is not None:
            member.touch(now)
            self._answer(ticket, Joined(error=error, member_id=member.member_id))

    def _refuse_sync(self, now: float, member: Member, error: ErrorCode) -> None:
        ticket, member.sync_ticket = member.sync_ticket, None
        if ticket is not None:
            # While it waited it could not send a heartbeat; its session counts from now.
            member.touch(now)
            self._answer(ticket, Synced(error=error))

    def _answer(self, ticket: object, answer: Joined | Synced) -> None:
        self._answers.append((ticket, answer))
