"""OffsetCommit, OffsetFetch and OffsetDelete."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.offsets import CommittedOffset, TopicPartition
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_NO_OFFSET = CommittedOffset(-1, -1, "", 0)
_UNSTABLE = {
    "committed_offset": -1,
    "committed_leader_epoch": -1,
    "error_code": ErrorCode.unstable_offset_commit,
}


async def offset_commit(node: Node, request: Request) -> Fields:
    """All that can be committed is, in one journal record."""
    body = request.body
    accepted: dict[TopicPartition, CommittedOffset] = {}
    try:
        node.groups.check_commit(
            body.group_id,
            body.member_id,
            getattr(body, "group_instance_id", None),
            body.generation_id_or_member_epoch,
        )
        topics = check_rows(node, body, accepted)
        node.groups.commit(body.group_id, accepted)
        node.transactions.overtake(body.group_id, accepted)
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        return refuse_offset_commit(request, refused.code)
    return {"topics": topics}


def refuse_offset_commit(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition; also for OffsetDelete and TxnOffsetCommit."""
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": row.partition_index, "error_code": code}
                    for row in topic.partitions
                ],
            }
            for topic in request.body.topics
        ]
    }


async def offset_fetch(node: Node, request: Request) -> Fields:
    """The asked-for or all offsets of one group.

    A client that asks for stable ones is told to wait for transactions that may change them.
    """
    group_id = request.body.group_id
    offsets = node.groups.offsets.of(group_id)
    is_stable_wanted = getattr(request.body, "require_stable", False)
    pending = node.transactions.pending_offsets(group_id) if is_stable_wanted else set()
    wanted: dict[str, list[int]] = {}
    if request.body.topics is None:
        for topic, index in offsets:
            wanted.setdefault(topic, []).append(index)
    else:
        wanted = {topic.name: list(topic.partition_indexes) for topic in request.body.topics}
    return {
        "topics": [
            {
                "name": topic,
                "partitions": [
                    _UNSTABLE | {"partition_index": index}
                    if (topic, index) in pending
                    else _fetched(index, offsets.get((topic, index), _NO_OFFSET))
                    for index in indexes
                ],
            }
            for topic, indexes in wanted.items()
        ]
    }


def refuse_offset_fetch(request: Request, code: ErrorCode) -> Fields:
    """The error, also per partition for versions that have none for the whole."""
    topics = [
        {
            "name": topic.name,
            "partitions": [
                {**_fetched(index, _NO_OFFSET), "error_code": code}
                for index in topic.partition_indexes
            ],
        }
        for topic in request.body.topics or ()
    ]
    return {"error_code": code, "topics": topics}


async def offset_delete(node: Node, request: Request) -> Fields:
    """Forgets offsets of a group that has no members."""
    body = request.body
    group = node.groups.find(body.group_id)
    if group is None:
        return {"error_code": ErrorCode.group_id_not_found}
    if group.members:
        return {"error_code": ErrorCode.non_empty_group}
    partitions = [(t.name, row.partition_index) for t in body.topics for row in t.partitions]
    try:
        node.groups.delete_offsets(body.group_id, partitions)
        node.transactions.overtake(body.group_id, partitions)
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        return {"error_code": refused.code}
    return refuse_offset_commit(request, ErrorCode.none)


def check_rows(
    node: Node, body: Any, accepted: dict[TopicPartition, CommittedOffset]
) -> list[Fields]:
    """Puts the rows that can be committed into `accepted`; returns the answer for all."""
    topics: list[Fields] = []
    for topic in body.topics:
        rows = []
        for row in topic.partitions:
            code = _check_row(node, topic.name, row)
            if code is ErrorCode.none:
                accepted[topic.name, row.partition_index] = _committed(node, row)
            rows.append({"partition_index": row.partition_index, "error_code": code})
        topics.append({"name": topic.name, "partitions": rows})
    return topics


def _check_row(node: Node, topic: str, row: Any) -> ErrorCode:
    if not node.topics.has(topic, row.partition_index):
        return ErrorCode.unknown_topic_or_partition
    if len(row.committed_metadata or "") > node.settings.groups.max_metadata_chars:
        return ErrorCode.offset_metadata_too_large
    return ErrorCode.none


def _committed(node: Node, row: Any) -> CommittedOffset:
    return CommittedOffset(
        row.committed_offset,
        getattr(row, "committed_leader_epoch", -1),
        row.committed_metadata or "",
        node.clock.now_ms(),
    )


def _fetched(index: int, row: CommittedOffset) -> dict[str, Any]:
    return {
        "partition_index": index,
        "committed_offset": row.offset,
        "committed_leader_epoch": row.leader_epoch,
        "metadata": row.metadata,
    }
