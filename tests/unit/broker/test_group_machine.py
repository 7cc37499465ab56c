"""The group state machine under any order of joins, syncs, heartbeats, leaves and silences."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.group import Group
from tidemill.broker.groups.member import GroupState, JoinAttempt, Joined, SyncAttempt, Synced
from tidemill.broker.groups.records import group_record, restore_group

SESSION, REBALANCE = 10.0, 30.0
CLIENTS = st.integers(0, 4)


Identity = tuple[str, str | None, int]


class Client:
    """A member as the protocol wants it: joins, syncs what it is given, joins again."""

    def __init__(self, number: int) -> None:
        self.name = f"client-{number}"
        self.instance_id = f"instance-{number}" if number < 2 else None
        self.member_id = ""
        self.generation = -1
        self.share: bytes | None = None
        self.joined: Joined | None = None
        self.waits_for: object | None = None


class GroupMachine(RuleBasedStateMachine):
    """Drives a group through time; invariants say what must hold after every step."""

    @initialize(delay=st.sampled_from([0.0, 3.0]))
    def begin(self, delay: float) -> None:
        self.now = 0.0
        self.ids = 0
        self.group = self._new_group(delay)
        self.delay = delay
        self.clients = [Client(number) for number in range(5)]
        self.tickets: dict[object, Client] = {}
        self.highest_generation = 0
        self.shares: dict[int, dict[str, bytes]] = {}
        # Whom a process was before it was started again: it may still be running somewhere.
        self.zombies: list[Identity] = []
        self.signs_of_life: dict[str, float] = {}

    def _new_group(self, delay: float) -> Group:
        return Group("g", initial_delay=delay, max_members=10, new_member_id=self._new_id)

    def _new_id(self, prefix: str) -> str:
        self.ids += 1
        return f"{prefix}-{self.ids}"

    def _settle(self) -> None:
        for ticket, answer in self.group.take_answers():
            client = self.tickets.pop(ticket)
            if client.waits_for is not ticket:
                continue
            client.waits_for = None
            if isinstance(answer, Joined):
                self._on_joined(client, answer)
            else:
                self._on_synced(client, answer)

    def _give_up_former_ids(self, client: Client) -> None:
        """A static client that names no id, joining or leaving, stands for all it ever had."""
        if client.instance_id is not None and not client.member_id:
            for member_id in list(self.signs_of_life):
                if member_id.startswith(client.instance_id):
                    del self.signs_of_life[member_id]

    def _on_joined(self, client: Client, answer: Joined) -> None:
        client.joined = client.share = None
        if answer.error is ErrorCode.member_id_required:
            client.member_id = answer.member_id
        elif answer.error is ErrorCode.none:
            client.member_id, client.generation = answer.member_id, answer.generation
            client.joined = answer
        elif answer.error in (ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id):
            client.member_id = ""

    def _on_synced(self, client: Client, answer: Synced) -> None:
        if answer.error is ErrorCode.none:
            assert self.group.state is GroupState.STABLE
            assert client.generation == self.group.generation
            client.share = answer.assignment
            given = self.shares.setdefault(client.generation, {})
            assert given.get(client.member_id, answer.assignment) == answer.assignment
            given[client.member_id] = answer.assignment

    def _ticket(self, client: Client) -> object:
        client.waits_for = ticket = object()
        self.tickets[ticket] = client
        return ticket

    @rule(number=CLIENTS, protocols=st.sampled_from([("range",), ("range", "sticky")]))
    def join(self, number: int, protocols: tuple[str, ...]) -> None:
        client = self.clients[number]
        attempt = JoinAttempt(
            member_id=client.member_id,
            instance_id=client.instance_id,
            client_id=client.name,
            client_host="host",
            session_ms=int(SESSION * 1000),
            rebalance_ms=int(REBALANCE * 1000),
            protocol_type="consumer",
            protocols=tuple((name, b"m") for name in protocols),
            assigns_id=True,
        )
        self._give_up_former_ids(client)
        self.group.join(self.now, attempt, self._ticket(client))
        self._settle()

    @rule(number=CLIENTS)
    def sync(self, number: int) -> None:
        client = self.clients[number]
        if client.joined is None:
            return
        shares = {
            member_id: f"{client.generation}/{member_id}".encode()
            for member_id, _, _ in client.joined.members
        }
        attempt = SyncAttempt(
            member_id=client.member_id,
            instance_id=client.instance_id,
            generation=client.generation,
            assignments=shares,
        )
        self.group.sync(self.now, attempt, self._ticket(client))
        self._settle()

    @rule(number=CLIENTS)
    def heartbeat(self, number: int) -> None:
        client = self.clients[number]
        identity = client.member_id, client.instance_id, client.generation
        expected = self._expected(identity)
        if self.group.state is GroupState.PREPARING and expected is ErrorCode.none:
            expected = ErrorCode.rebalance_in_progress
        assert self._asked(self.group.heartbeat, identity) is expected
        self._note_life(client, expected)

    @rule(number=CLIENTS)
    def commit(self, number: int) -> None:
        client = self.clients[number]
        identity = client.member_id, client.instance_id, client.generation
        expected = self._expected(identity)
        if self.group.state is GroupState.COMPLETING and expected is ErrorCode.none:
            expected = ErrorCode.rebalance_in_progress
        if not self.group.members and client.generation < 0:
            expected = ErrorCode.none
        assert self._asked(self.group.check_commit, identity) is expected
        self._note_life(client, expected)

    @rule(number=CLIENTS)
    def start_again(self, number: int) -> None:
        """The process is replaced by one that knows nothing; the old one may not be dead."""
        client = self.clients[number]
        if client.member_id:
            self.zombies.append((client.member_id, client.instance_id, client.generation))
        client.member_id, client.generation = "", -1
        client.joined = client.share = client.waits_for = None

    @precondition(lambda self: self.zombies)
    @rule(data=st.data(), asks=st.sampled_from(["heartbeat", "check_commit"]))
    def come_back_from_the_dead(self, data: st.DataObject, asks: str) -> None:
        """A zombie is told what it is, unless nothing has happened since."""
        identity = data.draw(st.sampled_from(self.zombies))
        expected = self._expected(identity)
        told = self._asked(getattr(self.group, asks), identity)
        if expected is ErrorCode.none:
            assert told in (ErrorCode.none, ErrorCode.rebalance_in_progress)
        elif not (asks == "check_commit" and identity[2] < 0 and not self.group.members):
            assert told is expected

    @precondition(lambda self: self.zombies)
    @rule(data=st.data())
    def ask_for_a_share_from_the_dead(self, data: st.DataObject) -> None:
        member_id, instance_id, generation = data.draw(st.sampled_from(self.zombies))
        expected = self._expected((member_id, instance_id, generation))
        if expected is ErrorCode.none:
            return
        attempt = SyncAttempt(
            member_id=member_id,
            instance_id=instance_id,
            generation=generation,
            assignments={member_id: b"stolen"},
        )
        self.group.sync(self.now, attempt, ticket := object())
        ((answered, answer),) = self.group.take_answers()
        assert (answered, answer.error) == (ticket, expected)

    @rule(generation=st.sampled_from([-1, 0, 7]))
    def commit_from_outside(self, generation: int) -> None:
        """A client that is in no group may commit while the group has no members."""
        told = self._asked(self.group.check_commit, ("", None, generation))
        is_free = not self.group.members and generation < 0
        assert told is (ErrorCode.none if is_free else ErrorCode.unknown_member_id)

    def _expected(self, identity: "Identity") -> ErrorCode:
        """What Kafka's protocol says to who is not, or no longer, a member of this generation."""
        member_id, instance_id, generation = identity
        for member in self.group.members.values():
            if instance_id == member.instance_id is not None and member.member_id != member_id:
                return ErrorCode.fenced_instance_id
        if member_id not in self.group.members:
            return ErrorCode.unknown_member_id
        is_current = generation == self.group.generation
        return ErrorCode.none if is_current else ErrorCode.illegal_generation

    def _asked(self, call: Any, identity: "Identity") -> ErrorCode:
        try:
            call(self.now, *identity)
        except RequestRefused as refused:
            return refused.code
        finally:
            self._settle()
        return ErrorCode.none

    def _note_life(self, client: Client, told: ErrorCode) -> None:
        is_stable = self.group.state is GroupState.STABLE and client.share is not None
        if told is ErrorCode.none and is_stable and client.member_id in self.group.members:
            self.signs_of_life[client.member_id] = self.now

    @rule(number=CLIENTS)
    def leave(self, number: int) -> None:
        client = self.clients[number]
        left = client.member_id  # the answer to a join that still waits may take it away
        self._try(self.group.leave, self.now, left, client.instance_id)
        self._give_up_former_ids(client)
        self.signs_of_life.pop(left, None)
        client.member_id, client.joined, client.share = "", None, None

    @rule(seconds=st.sampled_from([0.1, 2.0, 5.0, 11.0, 31.0]))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        deadline = self.group.next_deadline()
        while deadline is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.group.tick(self.now)
            self._settle()
            deadline = self.group.next_deadline()
            self._assert_alive()
        self.now = end
        self.group.tick(self.now)
        self._settle()
        self._assert_alive()

    def _assert_alive(self) -> None:
        """Who gave a sign of life within its session is in the group, who did not is out."""
        for member_id, seen in self.signs_of_life.items():
            assert seen + SESSION <= self.now or member_id in self.group.members
        for member in self.group.members.values():
            assert member.is_waiting or member.expires_at > self.now

    @rule(followers_sync=st.booleans())
    def everyone_does_as_told(self, followers_sync: bool) -> None:
        """Brings the group to rest, so that other steps find it there; maybe with one to sync."""
        for _ in range(3):
            for number, client in enumerate(self.clients):
                if client.waits_for is None and not self._is_settled(client):
                    self.join(number, ("range",))
            self.wait(3.1)
        for number, client in enumerate(self.clients):
            leads = client.joined is not None and client.joined.members
            if client.waits_for is None and client.share is None and (leads or followers_sync):
                self.sync(number)

    def _is_settled(self, client: Client) -> bool:
        is_current = client.generation == self.group.generation
        is_resting = self.group.state in (GroupState.STABLE, GroupState.COMPLETING)
        return is_current and is_resting and client.member_id in self.group.members

    @rule(seconds=st.sampled_from([2.0, 5.0, 9.0]), rounds=st.integers(1, 4))
    def everyone_beats(self, seconds: float, rounds: int) -> None:
        """As long as all give signs of life nobody is taken for dead."""
        for _ in range(rounds):
            for number in range(len(self.clients)):
                self.heartbeat(number)
            self.wait(seconds)

    @rule()
    def restart_the_broker(self) -> None:
        if self.group.state not in (GroupState.STABLE, GroupState.EMPTY) or self.tickets:
            return
        record = group_record(self.group, 0)
        self.group = self._new_group(self.delay)
        restore_group(self.group, record, self.now)

    def _try(self, call: Any, *args: Any) -> bool:
        try:
            call(*args)
        except RequestRefused:
            return False
        finally:
            self._settle()
        return True

    @invariant()
    def generations_only_grow(self) -> None:
        assert self.group.generation >= self.highest_generation
        self.highest_generation = self.group.generation

    @invariant()
    def state_and_members_agree(self) -> None:
        group = self.group
        if group.state is GroupState.EMPTY:
            assert not group.members
        if group.state in (GroupState.STABLE, GroupState.COMPLETING):
            assert group.roster.leader in group.members
            assert group.protocol in {"range", "sticky"}
        instances = [m.instance_id for m in group.members.values() if m.instance_id]
        assert len(instances) == len(set(instances))

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        waiting = {
            ticket
            for member in self.group.members.values()
            for ticket in (member.join_ticket, member.sync_ticket)
            if ticket is not None
        }
        assert waiting == set(self.tickets), "a request would never be answered"
        if waiting or self.group.state is GroupState.PREPARING:
            assert self.group.next_deadline() is not None, "no timer would ever move it on"

    @invariant()
    def a_stable_group_owes_no_answers(self) -> None:
        if self.group.state is GroupState.STABLE:
            assert not self.tickets

    def teardown(self) -> None:
        """Left alone, every group comes to rest: all members expire and it is empty."""
        if not hasattr(self, "group"):
            return
        for _ in range(20):
            self.wait(31.0)
        assert self.group.state is GroupState.EMPTY
        assert not self.tickets


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
