"""The group protocol request by request, as raw members speak it."""

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)

OK, ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, UNKNOWN_MEMBER, REBALANCE = 0, 22, 23, 25, 27
INVALID_SESSION_TIMEOUT, MEMBER_ID_REQUIRED, FENCED_INSTANCE = 26, 79, 82

# Apache Kafka 4 reads what consumers say they subscribe to: version 0, no topics, no user data.
METADATA = struct.pack(">hii", 0, 0, -1)


@dataclass
class Member:
    """A member that does what the test says and nothing else."""

    connection: AIOKafkaConnection
    group: str
    instance_id: str | None = None
    member_id: str = ""
    generation: int = -1
    leader: str = ""
    members: tuple[Any, ...] = ()
    session_ms: int = 6_000

    async def join(self, protocol: str = "range", kind: str = "consumer") -> int:
        """Joins, taking the member id it is told; returns the error code."""
        for _ in range(2):
            answer = await self.connection.send(
                JoinGroupRequest(
                    self.group,
                    self.session_ms,
                    6_000,
                    self.member_id,
                    self.instance_id,
                    kind,
                    [(protocol, METADATA)],
                )
            )
            if answer.error_code in (OK, MEMBER_ID_REQUIRED):
                self.member_id = answer.member_id
            if answer.error_code != MEMBER_ID_REQUIRED:
                break
        self.generation, self.leader = answer.generation_id, answer.leader_id
        self.members = tuple(answer.members)
        return int(answer.error_code)

    async def sync(self, shares: dict[str, bytes] | None = None) -> tuple[int, bytes]:
        request = SyncGroupRequest(
            self.group,
            self.generation,
            self.member_id,
            self.instance_id,
            list((shares or {}).items()),
        )
        answer = await self.connection.send(request)
        return int(answer.error_code), bytes(answer.member_assignment)

    async def heartbeat(self) -> int:
        request = HeartbeatRequest(self.group, self.generation, self.member_id)
        return int((await self.connection.send(request)).error_code)

    async def commit(self, topic: str, offset: int = 1) -> int:
        request = OffsetCommitRequest(
            self.group, self.generation, self.member_id, -1, [(topic, [(0, offset, "")])]
        )
        answer = await self.connection.send(request)
        return int(answer.topics[0][1][0][1])

    async def leave(self) -> int:
        answer = await self.connection.send(LeaveGroupRequest(self.group, self.member_id))
        return int(answer.error_code)


async def _member(kafka: Any, group: str, instance_id: str | None = None) -> Member:
    return Member(await kafka.connection(), group, instance_id)


async def _stable_pair(kafka: Any) -> tuple[Member, Member]:
    """Two members in one generation, the first one leading."""
    group = kafka.name("group")
    first, second = await _member(kafka, group), await _member(kafka, group)
    assert await first.join() == OK
    assert (await first.sync({first.member_id: b"all"}))[0] == OK
    joining = asyncio.create_task(second.join())
    await kafka.until(lambda: _is(first.heartbeat(), REBALANCE))
    assert [await first.join(), await joining] == [OK, OK]
    shares = {first.member_id: b"one", second.member_id: b"two"}
    leader, follower = (first, second) if first.leader == first.member_id else (second, first)
    waiting = asyncio.create_task(follower.sync())
    assert await leader.sync(shares) == (OK, shares[leader.member_id])
    assert await waiting == (OK, shares[follower.member_id])
    return leader, follower


async def _is(answer: Any, expected: int) -> bool:
    return bool(await answer == expected)


async def test_the_leader_alone_sees_the_members_and_shares_reach_everyone(kafka: Any) -> None:
    leader, follower = await _stable_pair(kafka)
    assert {row[0] for row in leader.members} == {leader.member_id, follower.member_id}
    assert all(row[2] == METADATA for row in leader.members)
    assert follower.members == ()
    assert leader.generation == follower.generation
    assert [await leader.heartbeat(), await follower.heartbeat()] == [OK, OK]


async def test_commits_are_accepted_while_others_are_joining(kafka: Any) -> None:
    topic = await kafka.topic()
    leader, follower = await _stable_pair(kafka)
    third = await _member(kafka, leader.group)
    joining = asyncio.create_task(third.join())
    await kafka.until(lambda: _is(leader.heartbeat(), REBALANCE))
    assert await follower.commit(topic, 5) == OK
    assert await asyncio.gather(leader.join(), follower.join(), joining) == [OK, OK, OK]
    assert await follower.commit(topic, 6) == REBALANCE, "the shares are not handed out yet"


async def test_an_old_generation_may_neither_commit_nor_sync(kafka: Any) -> None:
    topic = await kafka.topic()
    leader, follower = await _stable_pair(kafka)
    old = follower.generation
    assert await leader.leave() == OK
    await kafka.until(lambda: _is(follower.heartbeat(), REBALANCE))
    assert await follower.join() == OK
    assert follower.generation > old
    current, follower.generation = follower.generation, old
    assert await follower.commit(topic) == ILLEGAL_GENERATION
    assert (await follower.sync())[0] == ILLEGAL_GENERATION
    follower.generation = current
    assert (await follower.sync({follower.member_id: b"all"})) == (OK, b"all")
    assert await follower.commit(topic) == OK
    assert await leader.commit(topic) == UNKNOWN_MEMBER


async def test_a_leader_that_dies_before_sync_does_not_block_the_group(kafka: Any) -> None:
    leader, follower = await _stable_pair(kafka)
    third = await _member(kafka, leader.group)
    joining = asyncio.create_task(third.join())
    await kafka.until(lambda: _is(leader.heartbeat(), REBALANCE))
    assert await asyncio.gather(leader.join(), follower.join(), joining) == [OK, OK, OK]
    waiting = [asyncio.create_task(member.sync()) for member in (follower, third)]
    leader.connection.close()
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert [code for code, _ in answers] == [REBALANCE, REBALANCE]
    assert await asyncio.gather(follower.join(), third.join()) == [OK, OK]
    assert follower.leader in (follower.member_id, third.member_id)


async def test_a_follower_that_joins_again_unchanged_starts_no_rebalance(kafka: Any) -> None:
    leader, follower = await _stable_pair(kafka)
    before = follower.generation
    assert await follower.join() == OK
    assert follower.generation == before
    assert await leader.heartbeat() == OK


async def test_strangers_are_told_so(kafka: Any) -> None:
    group = kafka.name("group")
    stranger = Member(await kafka.connection(), group, None, "nobody", 1)
    assert await stranger.heartbeat() == UNKNOWN_MEMBER
    assert await stranger.join() == UNKNOWN_MEMBER
    assert (await stranger.sync())[0] == UNKNOWN_MEMBER
    assert await stranger.leave() == UNKNOWN_MEMBER


async def test_a_session_the_broker_does_not_allow_is_refused(kafka: Any) -> None:
    hasty = Member(await kafka.connection(), kafka.name("group"), session_ms=10)
    assert await hasty.join() == INVALID_SESSION_TIMEOUT


async def test_members_must_have_a_protocol_in_common(kafka: Any) -> None:
    leader, _ = await _stable_pair(kafka)
    odd = await _member(kafka, leader.group)
    assert await odd.join(protocol="cooperative-sticky") == INCONSISTENT_PROTOCOL
    assert await odd.join(kind="connect") == INCONSISTENT_PROTOCOL
    assert await leader.heartbeat() == OK


async def test_a_returning_static_member_keeps_its_share(kafka: Any) -> None:
    group = kafka.name("group")
    first = await _member(kafka, group, "instance-a")
    assert await first.join() == OK
    assert (await first.sync({first.member_id: b"share"})) == (OK, b"share")
    first.connection.close()
    again = await _member(kafka, group, "instance-a")
    assert await again.join() == OK
    assert again.generation == first.generation
    assert again.member_id != first.member_id
    assert await again.sync() == (OK, b"share")
    assert await again.heartbeat() == OK


async def test_of_two_with_one_instance_id_the_older_is_fenced(kafka: Any) -> None:
    group = kafka.name("group")
    first = await _member(kafka, group, "instance-a")
    assert await first.join() == OK
    assert (await first.sync({first.member_id: b"share"}))[0] == OK
    second = await _member(kafka, group, "instance-a")
    assert await second.join() == OK
    assert (await first.sync())[0] == FENCED_INSTANCE
    assert await first.join() == FENCED_INSTANCE


async def test_a_static_member_that_comes_back_wakes_no_one(kafka: Any) -> None:
    topic, group = await kafka.topic(partitions=4), kafka.name("group")
    consumers = [
        await kafka.consumer(topic, group_id=group, group_instance_id=f"i{index}")
        for index in range(2)
    ]
    await kafka.until(lambda: all(len(c.assignment()) == 2 for c in consumers))
    generation = consumers[0]._coordinator.generation
    share = consumers[1].assignment()
    await consumers[1].stop()  # a static member does not say that it leaves
    again = await kafka.consumer(topic, group_id=group, group_instance_id="i1")
    await kafka.until(lambda: again.assignment() == share)
    assert consumers[0]._coordinator.generation == generation
