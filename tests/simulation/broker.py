"""The broker's side of Kafka: logs, consumer groups with generations, committed offsets."""

import zlib
from asyncio import Event, Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import WORLD, Process
from tidemill.topics import CATALOGUE

Headers = Sequence[tuple[str, bytes]]


@dataclass(eq=False)
class Member:
    """session: seconds without a heartbeat after which its partitions go to others."""

    name: str
    topics: tuple[str, ...]
    session: float
    heard_at: float
    joining: "Future[list[TopicPartition]] | None" = None
    generation: int = -1


@dataclass(eq=False)
class Group:
    """A consumer group. rebalancing: members are asked to join again."""

    name: str
    members: dict[str, Member] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    generation: int = 0
    rebalancing: bool = False
    round: int = 0


class Broker:
    """Everything acknowledged survives; only availability fails."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.up = True
        self.logs: dict[str, list[list[ConsumerRecord]]] = {}
        self.groups: dict[str, Group] = {}
        # Every client that joined a group, with its process.
        self.consumers: list[tuple[Process, Any]] = []
        self.stamped = {topic.name for topic in CATALOGUE if topic.write_scope}
        # What each producer wrote last, so that a retry of it is known.
        self._sequences: dict[tuple[int, TopicPartition], int] = {}
        self._news = Event()

    def check_up(self) -> None:
        if not self.up:
            raise KafkaConnectionError("the broker is down")

    # --- logs

    def create(self, topic: str, partitions: int) -> None:
        self.logs.setdefault(topic, [[] for _ in range(partitions)])

    def place_of(self, topic: str, key: bytes | None) -> TopicPartition:
        return TopicPartition(topic, zlib.crc32(key or b"") % len(self.logs[topic]))

    def end(self, place: TopicPartition) -> int:
        return len(self.logs[place.topic][place.partition])

    def append(
        self,
        place: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        made_at: float,
    ) -> int:
        log = self.logs[place.topic][place.partition]
        stamped = place.topic in self.stamped
        moment = self._loop.wall() if stamped else made_at
        record = ConsumerRecord(
            topic=place.topic,
            partition=place.partition,
            offset=len(log),
            timestamp=int(moment * 1000),
            timestamp_type=int(stamped),
            key=key,
            value=value,
            checksum=None,
            serialized_key_size=len(key or b""),
            serialized_value_size=len(value or b""),
            headers=tuple(headers),
        )
        log.append(record)
        self._loop.trace("log", place.topic, place.partition, record.offset)
        self.announce()
        return record.offset

    def is_repeated(self, producer: int, place: TopicPartition, sequence: int) -> bool:
        """True when this batch of an idempotent producer is in the log already."""
        known = self._sequences.get((producer, place), -1)
        if sequence <= known:
            return True
        self._sequences[producer, place] = sequence
        return False

    def announce(self) -> None:
        """Wake everybody who waits for records."""
        self._news.set()
        self._news = Event()

    @property
    def news(self) -> Event:
        return self._news

    # --- groups

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))

    def join(self, name: str, member: Member) -> "Future[list[TopicPartition]]":
        """Resolved with the member's partitions once the group has settled."""
        group = self.group(name)
        joining = member.joining = self._loop.create_future()
        member.heard_at = self._loop.time()
        group.members[member.name] = member
        self.rebalance(group)
        self._settle_when_all_joined(group)
        return joining

    def rebalance(self, group: Group) -> None:
        """Ask every member to join again; who does not in time is out."""
        if group.rebalancing:
            return
        group.rebalancing = True
        group.round += 1
        self._loop.trace("rebalance", group.name)
        wait = max((m.session for m in group.members.values()), default=0.0)
        self._in_world(wait, self._settle_late, group, group.round)

    def _in_world(self, delay: float, work: object, *arguments: object) -> None:
        self._loop.call_later(delay, work, *arguments, context=WORLD.context())  # type: ignore[arg-type]

    def _settle_when_all_joined(self, group: Group) -> None:
        if all(member.joining is not None for member in group.members.values()):
            self._settle(group)

    def _settle_late(self, group: Group, round_: int) -> None:
        if group.rebalancing and group.round == round_:
            group.members = {n: m for n, m in group.members.items() if m.joining is not None}
            self._settle(group)

    def _settle(self, group: Group) -> None:
        group.rebalancing = False
        group.generation += 1
        members = sorted(group.members.values(), key=lambda member: member.name)
        shares: dict[str, list[TopicPartition]] = {member.name: [] for member in members}
        topics = sorted({topic for member in members for topic in member.topics})
        places = [TopicPartition(t, p) for t in topics for p in range(len(self.logs[t]))]
        for number, place in enumerate(places):
            shares[members[number % len(members)].name].append(place)
        self._loop.trace("group", group.name, group.generation, len(members))
        for member in members:
            member.generation, joining = group.generation, member.joining
            member.joining, member.heard_at = None, self._loop.time()
            if joining is not None and not joining.done():
                joining.set_result(shares[member.name])
            self._in_world(member.session, self._expire, group, member)

    def _expire(self, group: Group, member: Member) -> None:
        """Looks at a member's session, and again until it is gone."""
        if group.members.get(member.name) is not member or member.joining is not None:
            return
        if not self.up:
            member.heard_at = self._loop.time()
        left = member.heard_at + member.session - self._loop.time()
        if left > 1e-6:
            self._in_world(left, self._expire, group, member)
            return
        self._loop.trace("session lost", group.name, member.name)
        self.leave(group.name, member)

    def leave(self, name: str, member: Member) -> None:
        group = self.group(name)
        if group.members.get(member.name) is member:
            del group.members[member.name]
            if group.members:
                self.rebalance(group)
                self._settle_when_all_joined(group)

    def heartbeat(self, name: str, member: Member) -> bool:
        """False when the member has to join again."""
        group = self.group(name)
        if group.members.get(member.name) is not member or group.rebalancing:
            return False
        member.heard_at = self._loop.time()
        return member.generation == group.generation

    def commit(self, name: str, member: Member, offsets: dict[TopicPartition, int]) -> None:
        group = self.group(name)
        known = group.members.get(member.name)
        if known is not member or member.generation != group.generation:
            self._loop.trace("commit refused", name, member.name)
            raise CommitFailedError
        group.committed.update(offsets)
        for place, offset in sorted(offsets.items()):
            self._loop.trace("offset", name, place.partition, offset)
