"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.member import JoinAttempt, Joined, SyncAttempt, Synced
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request, milliseconds

_TELLS_ID_FIRST = 4
_LEAVES_IN_BULK_FROM = 3


async def join_group(node: Node, request: Request) -> Fields:
    """Answered when the next generation begins."""
    body = request.body
    attempt = JoinAttempt(
        member_id=body.member_id,
        instance_id=getattr(body, "group_instance_id", None),
        client_id=request.client_id,
        client_host=request.client_host,
        session_ms=milliseconds(body.session_timeout),
        rebalance_ms=_rebalance_ms(body),
        protocol_type=body.protocol_type,
        protocols=tuple((row.name, bytes(row.metadata)) for row in body.protocols),
        assigns_id=request.version >= _TELLS_ID_FIRST,
    )
    try:
        joined = await node.groups.join(body.group_id, attempt)
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        joined = Joined(error=refused.code, member_id=body.member_id)
    return _joined_fields(joined)


def refuse_join_group(request: Request, code: ErrorCode) -> Fields:
    """The error."""
    return _joined_fields(Joined(error=code, member_id=request.body.member_id))


async def sync_group(node: Node, request: Request) -> Fields:
    """Answered when the leader has brought the shares."""
    body = request.body
    attempt = SyncAttempt(
        member_id=body.member_id,
        instance_id=getattr(body, "group_instance_id", None),
        generation=body.generation_id,
        assignments={row.member_id: bytes(row.assignment) for row in body.assignments},
    )
    try:
        synced = await node.groups.sync(body.group_id, attempt)
        # A generation that was told to its members is never given out again.
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        synced = Synced(error=refused.code)
    return {"error_code": synced.error, "assignment": synced.assignment}


async def heartbeat(node: Node, request: Request) -> Fields:
    """A sign of life."""
    body = request.body
    instance_id = getattr(body, "group_instance_id", None)
    try:
        node.groups.heartbeat(body.group_id, body.member_id, instance_id, body.generation_id)
    except RequestRefused as refused:
        return {"error_code": refused.code}
    return {}


def refuse_plainly(request: Request, code: ErrorCode) -> Fields:
    """The error; for every answer that has one error for the whole."""
    return {"error_code": code}


async def leave_group(node: Node, request: Request) -> Fields:
    """One member, or from version 3 on several, each with its own answer."""
    body = request.body
    if request.version < _LEAVES_IN_BULK_FROM:
        return {"error_code": _leave(node, body.group_id, body.member_id, None)}
    return {
        "members": [
            {
                "member_id": row.member_id,
                "group_instance_id": row.group_instance_id,
                "error_code": _leave(node, body.group_id, row.member_id, row.group_instance_id),
            }
            for row in body.members
        ]
    }


def _rebalance_ms(body: Any) -> int:
    timeout = getattr(body, "rebalance_timeout", None)
    # Version 0 has no such field, and -1 as its default in the schema.
    if timeout is None or milliseconds(timeout) < 0:
        return milliseconds(body.session_timeout)
    return milliseconds(timeout)


def _joined_fields(joined: Joined) -> Fields:
    return {
        "error_code": joined.error,
        "generation_id": joined.generation,
        "protocol_name": joined.protocol,
        "leader": joined.leader,
        "member_id": joined.member_id,
        "members": [
            {"member_id": member_id, "group_instance_id": instance, "metadata": data}
            for member_id, instance, data in joined.members
        ],
    }


def _leave(node: Node, group_id: str, member_id: str, instance_id: str | None) -> ErrorCode:
    try:
        node.groups.leave(group_id, member_id, instance_id)
    except RequestRefused as refused:
        return refused.code
    return ErrorCode.none
