"""Runs the group state machines: gives them time, lets callers wait, journals what they decide."""

import asyncio
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import structlog
from kio.schema.errors import ErrorCode

from tidemill.broker.clock import Clock
from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.group import Group
from tidemill.broker.groups.member import GroupState, JoinAttempt, Joined, SyncAttempt, Synced
from tidemill.broker.groups.offsets import (
    CommittedOffset,
    GroupOffsets,
    TopicPartition,
    offsets_record,
)
from tidemill.broker.groups.records import group_record, restore_group
from tidemill.broker.settings import GroupLimits
from tidemill.broker.storage.journal import Journal, Record

_log = structlog.get_logger(__name__)


class GroupCoordinator:
    """All groups of the broker. Methods raise RequestRefused; lives on one event loop."""

    def __init__(self, journal: Journal, limits: GroupLimits, clock: Clock) -> None:
        self.offsets = GroupOffsets()
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._groups: dict[str, Group] = {}
        self._empty_since_ms: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._replayed: dict[str, Record] = {}

    # -- membership

    async def join(self, group_id: str, attempt: JoinAttempt) -> Joined:
        """Waits until the group's next generation begins, or is refused at once."""
        self._check_join(group_id, attempt)
        group = self._group_to_join(group_id, attempt)
        ticket: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        group.join(self._now(), attempt, ticket)
        self._settle(group)
        return await ticket

    async def sync(self, group_id: str, attempt: SyncAttempt) -> Synced:
        """Waits until the leader has handed out the shares."""
        group = self._existing(group_id)
        ticket: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        group.sync(self._now(), attempt, ticket)
        self._settle(group)
        return await ticket

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """A member's sign of life."""
        group = self._existing(group_id)
        group.heartbeat(self._now(), member_id, instance_id, generation)

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> None:
        """A member goes."""
        group = self._existing(group_id)
        group.leave(self._now(), member_id, instance_id)
        self._settle(group)

    # -- offsets

    def check_commit(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """Whether this member, or a client outside any group, may commit now."""
        _check_group_id(group_id)
        group = self._groups.get(group_id)
        if group is not None:
            group.check_commit(self._now(), member_id, instance_id, generation)
        elif generation >= 0:
            raise RequestRefused(ErrorCode.illegal_generation)

    def check_transactional_commit(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """Whether a producer may commit for this member; old clients do not name any."""
        _check_group_id(group_id)
        group = self._groups.get(group_id)
        if group is not None:
            group.check_transactional_commit(member_id, instance_id, generation)
        elif generation >= 0:
            raise RequestRefused(ErrorCode.illegal_generation)

    def commit(self, group_id: str, rows: dict[TopicPartition, CommittedOffset]) -> None:
        """Journals offsets and then shows them."""
        if rows:
            self._append(offsets_record(group_id, rows))
            self.offsets.put(group_id, rows)

    def delete_offsets(self, group_id: str, partitions: list[TopicPartition]) -> None:
        """Forgets offsets of a group."""
        rows = [list(partition) for partition in partitions]
        self._append({"kind": "offsets_deleted", "group": group_id, "rows": rows})
        # As in Apache Kafka the group stays for a while without them, to be described or deleted.
        self._groups.setdefault(group_id, self._new_group(group_id))
        self._empty_since_ms[group_id] = self._clock.now_ms()
        self.offsets.remove(group_id, partitions)

    # -- administration

    def find(self, group_id: str) -> Group | None:
        """The group, if it has or had members; groups of offsets alone are made up as empty."""
        group = self._groups.get(group_id)
        if group is None and self.offsets.of(group_id):
            return self._new_group(group_id)
        return group

    def all(self) -> Iterator[Group]:
        """Every group that has members or offsets."""
        for group_id in dict.fromkeys([*self._groups, *self.offsets]):
            group = self.find(group_id)
            if group is not None and (group.members or self.offsets.of(group_id)):
                yield group

    def delete(self, group_id: str) -> None:
        """Deletes an empty group with its offsets."""
        _check_group_id(group_id)
        group = self.find(group_id)
        if group is None:
            raise RequestRefused(ErrorCode.group_id_not_found)
        if group.members:
            raise RequestRefused(ErrorCode.non_empty_group)
        self._append({"kind": "group_deleted", "group": group_id})
        self._forget(group_id)
        self.offsets.remove_group(group_id)

    def expire(self) -> None:
        """Deletes groups empty for longer than offsets are kept, forgets those with none."""
        oldest = self._clock.now_ms() - self._limits.offsets_retention_ms
        for group in list(self.all()):
            if not group.members and self._last_used_ms(group.group_id) < oldest:
                self.delete(group.group_id)
        forgotten_before = self._clock.now_ms() - self._limits.empty_kept_ms
        for group in list(self._groups.values()):
            if self._empty_since_ms.get(group.group_id, 0) > forgotten_before:
                continue
            is_idle = group.state is GroupState.EMPTY and group.next_deadline() is None
            if is_idle and not self.offsets.of(group.group_id):
                self._forget(group.group_id)

    # -- journal

    def replay(self, record: Record) -> None:
        """Takes one journal record; call `open` after the last one."""
        self.offsets.replay(record)
        if record["kind"] == "group":
            self._replayed[record["group"]] = record
        elif record["kind"] == "group_deleted":
            self._replayed.pop(record["group"], None)

    def open(self) -> None:
        """Restores the replayed groups on the running loop."""
        for group_id, record in self._replayed.items():
            group = self._groups[group_id] = self._new_group(group_id)
            restore_group(group, record, self._now())
            self._empty_since_ms[group_id] = record["at_ms"]
            self._schedule(group)
        self._replayed.clear()

    def snapshot(self) -> Iterator[Record]:
        """Journal records that give the present state."""
        yield from self.offsets.snapshot()
        for group in self._groups.values():
            yield group_record(group, self._last_used_ms(group.group_id))

    def close(self) -> None:
        """Stops all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # -- inside

    def _check_join(self, group_id: str, attempt: JoinAttempt) -> None:
        _check_group_id(group_id)
        limits = self._limits
        if not limits.min_session_ms <= attempt.session_ms <= limits.max_session_ms:
            raise RequestRefused(ErrorCode.invalid_session_timeout)

    def _group_to_join(self, group_id: str, attempt: JoinAttempt) -> Group:
        group = self._groups.get(group_id)
        if group is not None:
            return group
        if attempt.member_id:
            raise RequestRefused(ErrorCode.unknown_member_id)
        if len(self._groups) >= self._limits.max_groups:
            raise RequestRefused(ErrorCode.coordinator_not_available)
        return self._groups.setdefault(group_id, self._new_group(group_id))

    def _existing(self, group_id: str) -> Group:
        _check_group_id(group_id)
        group = self._groups.get(group_id)
        if group is None:
            raise RequestRefused(ErrorCode.unknown_member_id)
        return group

    def _new_group(self, group_id: str) -> Group:
        return Group(
            group_id,
            initial_delay=self._limits.initial_delay_ms / 1000,
            max_members=self._limits.max_members,
            new_member_id=lambda prefix: f"{prefix}-{uuid4()}",
        )

    def _settle(self, group: Group) -> None:
        if group.has_changed:
            group.has_changed = False
            self._record(group)
        for ticket, answer in group.take_answers():
            assert isinstance(ticket, asyncio.Future)  # noqa: S101  made in join and sync
            if not ticket.done():
                ticket.set_result(answer)
        self._schedule(group)

    def _record(self, group: Group) -> None:
        now_ms = self._clock.now_ms()
        self._empty_since_ms[group.group_id] = now_ms
        try:
            self._journal.append(group_record(group, now_ms))
        except OSError:
            # The group works on in memory; after a restart its members simply join again.
            _log.warning("group_not_journaled", group=group.group_id)

    def _schedule(self, group: Group) -> None:
        timer = self._timers.pop(group.group_id, None)
        if timer is not None:
            timer.cancel()
        deadline = group.next_deadline()
        if deadline is not None:
            loop = asyncio.get_running_loop()
            tick = partial(self._tick, group)
            self._timers[group.group_id] = loop.call_at(deadline, tick)

    def _tick(self, group: Group) -> None:
        group.tick(self._now())
        self._settle(group)

    def _forget(self, group_id: str) -> None:
        self._groups.pop(group_id, None)
        self._empty_since_ms.pop(group_id, None)
        timer = self._timers.pop(group_id, None)
        if timer is not None:
            timer.cancel()

    def _last_used_ms(self, group_id: str) -> int:
        commits = [row.committed_ms for row in self.offsets.of(group_id).values()]
        return max([self._empty_since_ms.get(group_id, 0), *commits])

    def _append(self, record: Record) -> None:
        try:
            self._journal.append(record)
        except OSError as error:
            raise RequestRefused(ErrorCode.coordinator_not_available) from error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _check_group_id(group_id: str) -> None:
    if not group_id:
        raise RequestRefused(ErrorCode.invalid_group_id)
