"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords: where a log begins, ends and was."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import Node
from tidemill.broker.storage.partition import Partition
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

READ_COMMITTED = 1
_LATEST = -1
_EARLIEST = -2
_HIGHEST_TIMESTAMP = -3
_EARLIEST_LOCAL = -4
_LATEST_TIERED = -5
_ASKED_FOR_FROM = {_HIGHEST_TIMESTAMP: 7, _EARLIEST_LOCAL: 8, _LATEST_TIERED: 9}
_NOWHERE = (-1, -1)
_LEADER_EPOCH = 0


async def list_offsets(node: Node, request: Request) -> Fields:
    """Offsets by time, or the first, the next, or the latest in time.

    For a reader of committed records the log ends where the first open transaction begins.
    """

    def row(topic: str, asked: Any) -> Fields:
        if asked.timestamp < _LATEST_TIERED or request.version < _ASKED_FOR_FROM.get(
            asked.timestamp, 0
        ):
            raise RequestRefused(ErrorCode.unsupported_version)
        partition = node.topics.partition(topic, asked.partition_index)
        offset, timestamp = _find(partition, asked, _end(partition, request.body))
        epoch = _LEADER_EPOCH if offset >= 0 else -1
        return {"offset": offset, "timestamp": timestamp, "leader_epoch": epoch}

    return _per_partition(request, row)


def refuse_list_offsets(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition."""
    return _per_partition(request, _raiser(code))


async def delete_records(node: Node, request: Request) -> Fields:
    """Makes records below an offset unreadable; whole segments of them are removed."""

    def row(topic: str, asked: Any) -> Fields:
        start = node.topics.delete_records(topic, asked.partition_index, asked.offset)
        return {"low_watermark": start}

    answer = _per_partition(request, row)
    await node.durability.confirm_journal()
    return answer


def refuse_delete_records(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition."""
    return _per_partition(request, _raiser(code))


async def offset_for_leader_epoch(node: Node, request: Request) -> Fields:
    """The node has led every partition in one epoch, so an epoch ends where the log does."""
    topics = []
    for topic in request.body.topics:
        rows = [_epoch_end(node, topic.topic, asked) for asked in topic.partitions]
        topics.append({"topic": topic.topic, "partitions": rows})
    return {"topics": topics}


def refuse_offset_for_leader_epoch(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition."""
    return {
        "topics": [
            {
                "topic": topic.topic,
                "partitions": [
                    {"partition": asked.partition, "error_code": code} for asked in topic.partitions
                ],
            }
            for topic in request.body.topics
        ]
    }


def _per_partition(request: Request, row: Any) -> Fields:
    topics = []
    for topic in request.body.topics:
        rows = []
        for asked in topic.partitions:
            answer: dict[str, Any] = {"partition_index": asked.partition_index}
            try:
                answer.update(row(topic.name, asked))
            except RequestRefused as refused:
                answer.update(error_code=refused.code, low_watermark=-1)
            rows.append(answer)
        topics.append({"name": topic.name, "partitions": rows})
    return {"topics": topics}


def _raiser(code: ErrorCode) -> Any:
    def row(topic: str, asked: Any) -> Fields:
        raise RequestRefused(code)

    return row


def _end(partition: Partition, body: Any) -> int:
    is_committed = getattr(body, "isolation_level", 0) == READ_COMMITTED
    return partition.stable_offset if is_committed else partition.end_offset


def _find(partition: Partition, asked: Any, end: int) -> tuple[int, int]:
    if asked.timestamp == _LATEST:
        return end, -1
    if asked.timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        return partition.start_offset, -1
    if asked.timestamp == _LATEST_TIERED:
        return _NOWHERE
    if asked.timestamp == _HIGHEST_TIMESTAMP:
        found = partition.find_latest_time()
    else:
        found = partition.find_time(asked.timestamp)
    return found if found is not None and found[0] < end else _NOWHERE


def _epoch_end(node: Node, topic: str, asked: Any) -> Fields:
    answer: dict[str, Any] = {"partition": asked.partition}
    try:
        partition = node.topics.partition(topic, asked.partition)
    except RequestRefused as refused:
        return {**answer, "error_code": refused.code}
    if asked.leader_epoch != _LEADER_EPOCH:
        return answer
    return {**answer, "leader_epoch": _LEADER_EPOCH, "end_offset": partition.end_offset}
