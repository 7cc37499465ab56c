"""ListGroups, DescribeGroups and DeleteGroups."""

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.group import Group
from tidemill.broker.groups.member import GroupState
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_TELLS_UNKNOWN_FROM = 6
_UNKNOWN: Fields = {
    "error_code": ErrorCode.group_id_not_found,
    "error_message": "the group is not known",
}


async def list_groups(node: Node, request: Request) -> Fields:
    """All groups, or those in the asked-for states."""
    states = {state.lower() for state in getattr(request.body, "states_filter", ())}
    return {
        "groups": [
            {
                "group_id": group.group_id,
                "protocol_type": group.roster.protocol_type or "",
                "group_state": group.state,
            }
            for group in node.groups.all()
            if not states or group.state.lower() in states
        ]
    }


async def describe_groups(node: Node, request: Request) -> Fields:
    """Members and their shares; an unknown group is a dead one, and from 6 on an error."""
    unknown = _UNKNOWN if request.version >= _TELLS_UNKNOWN_FROM else {}
    return {"groups": [_describe(node, group_id, unknown) for group_id in request.body.groups]}


def refuse_describe_groups(request: Request, code: ErrorCode) -> Fields:
    """The same error for every group."""
    groups = request.body.groups
    return {"groups": [{"group_id": group_id, "error_code": code} for group_id in groups]}


async def delete_groups(node: Node, request: Request) -> Fields:
    """Each group succeeds or fails by itself."""
    rows = [
        {"group_id": group_id, "error_code": _delete(node, group_id)}
        for group_id in request.body.groups_names
    ]
    await node.durability.confirm_journal()
    return {"results": rows}


def refuse_delete_groups(request: Request, code: ErrorCode) -> Fields:
    """The same error for every group."""
    groups = request.body.groups_names
    return {"results": [{"group_id": group_id, "error_code": code} for group_id in groups]}


def _describe(node: Node, group_id: str, unknown: Fields) -> Fields:
    group = node.groups.find(group_id)
    if group is None:
        return {"group_id": group_id, "group_state": GroupState.DEAD, **unknown}
    return {
        "group_id": group_id,
        "group_state": group.state,
        "protocol_type": group.roster.protocol_type or "",
        "protocol_data": group.protocol or "",
        "members": _members(group),
    }


def _members(group: Group) -> list[Fields]:
    return [
        {
            "member_id": member.member_id,
            "group_instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": member.client_host,
            "member_metadata": member.metadata(group.protocol),
            "member_assignment": member.assignment,
        }
        for member in group.members.values()
    ]


def _delete(node: Node, group_id: str) -> ErrorCode:
    try:
        node.groups.delete(group_id)
        node.transactions.forget_group(group_id)
    except RequestRefused as refused:
        return refused.code
    return ErrorCode.none
