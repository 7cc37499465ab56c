"""A group's members as a journal record, so that a restart of the broker disturbs no group."""

import base64

from tidemill.broker.groups.group import Group
from tidemill.broker.groups.member import GroupState, Member
from tidemill.broker.storage.journal import Record


def group_record(group: Group, now_ms: int) -> Record:
    """The record of a group that became stable or empty.

    Of one between two generations only the number is kept: after a crash all join anew.
    """
    is_resting = group.state in (GroupState.STABLE, GroupState.EMPTY)
    members = group.members.values() if is_resting else ()
    return {
        "kind": "group",
        "group": group.group_id,
        "generation": group.generation,
        "protocol_type": group.roster.protocol_type,
        "protocol": group.protocol,
        "leader": group.roster.leader if is_resting else None,
        "at_ms": now_ms,
        "members": [_member_record(member) for member in members],
    }


def restore_group(group: Group, record: Record, now: float) -> None:
    """Fills a new group from its record; members get a fresh session."""
    group.generation = record["generation"]
    group.roster.protocol_type = record["protocol_type"]
    group.protocol = record["protocol"]
    group.roster.leader = record["leader"]
    for row in record["members"]:
        group.members[row["id"]] = _restore_member(row, now)
    group.state = GroupState.STABLE if group.members else GroupState.EMPTY


def _member_record(member: Member) -> Record:
    return {
        "id": member.member_id,
        "instance": member.instance_id,
        "client": member.client_id,
        "host": member.client_host,
        "session_ms": member.session_ms,
        "rebalance_ms": member.rebalance_ms,
        "protocols": [[name, _text(data)] for name, data in member.protocols],
        "assignment": _text(member.assignment),
    }


def _restore_member(row: Record, now: float) -> Member:
    return Member(
        member_id=row["id"],
        instance_id=row["instance"],
        client_id=row["client"],
        client_host=row["host"],
        session_ms=row["session_ms"],
        rebalance_ms=row["rebalance_ms"],
        protocols=tuple((name, base64.b64decode(data)) for name, data in row["protocols"]),
        assignment=base64.b64decode(row["assignment"]),
        expires_at=now + row["session_ms"] / 1000,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
