"""Produce: appends batches and confirms them."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.offsets import TopicPartition
from tidemill.broker.handlers.producers import before_fencing_had_a_code
from tidemill.broker.node import Node
from tidemill.broker.storage.batch import HEADER_SIZE, TRANSACTIONAL, ZSTD, BatchHeader
from tidemill.broker.storage.partition import Partition
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_ZSTD_SINCE = 7


async def produce(node: Node, request: Request) -> Fields | None:
    """Answers each partition by itself; a producer with acks=0 wants no answer."""
    body = request.body
    refusal = _refusal(request)
    if refusal is not None:
        return refuse_produce(request, refusal)
    responses = []
    for topic in body.topic_data:
        rows = [
            await _append(node, request, topic.name, partition)
            for partition in topic.partition_data
        ]
        responses.append({"name": topic.name, "partition_responses": rows})
    return None if body.acks == 0 else {"responses": responses}


def refuse_produce(request: Request, code: ErrorCode) -> Fields | None:
    """The same error for every partition."""
    if request.body.acks == 0:
        return None
    return {
        "responses": [
            {
                "name": topic.name,
                "partition_responses": [
                    _failed(partition.index, RequestRefused(code))
                    for partition in topic.partition_data
                ],
            }
            for topic in request.body.topic_data
        ]
    }


def _refusal(request: Request) -> ErrorCode | None:
    if request.body.acks not in (-1, 0, 1):
        return ErrorCode.invalid_required_acks
    return None


async def _append(node: Node, request: Request, topic: str, data: Any) -> Fields:
    try:
        partition = node.topics.partition(topic, data.index)
        _check_codec(request.version, data.records)
        _check_transaction(node, request, (topic, data.index), data.records)
        rules = node.topics.get(topic).configs.append_rules
        appended = partition.append(data.records, rules, node.clock.now_ms())
        if request.body.acks != 0:
            await node.durability.confirm(partition)
    except RequestRefused as refused:
        return _failed(data.index, refused)
    return _succeeded(data.index, partition, appended.base_offset, appended.append_time_ms)


def _check_codec(version: int, records: bytes | None) -> None:
    # Attributes end at byte 23 of a batch; clients of old versions could not read zstd.
    if version < _ZSTD_SINCE and records and len(records) > 22 and records[22] & 7 == ZSTD:
        raise RequestRefused(ErrorCode.unsupported_compression_type)


def _check_transaction(
    node: Node, request: Request, partition: TopicPartition, records: bytes | None
) -> None:
    # The header is read for this only if its flag says so; `append` checks the rest.
    if not records or len(records) < HEADER_SIZE or not records[22] & TRANSACTIONAL:
        return
    header = BatchHeader.read(records)
    try:
        node.transactions.check_write(
            request.body.transactional_id, header.producer_id, header.producer_epoch, partition
        )
    except RequestRefused as refused:
        raise before_fencing_had_a_code(refused) from refused


def _succeeded(index: int, partition: Partition, offset: int, time_ms: int) -> Fields:
    return {
        "index": index,
        "base_offset": offset,
        "log_append_time": time_ms,
        "log_start_offset": partition.start_offset,
    }


def _failed(index: int, refused: RequestRefused) -> Fields:
    return {
        "index": index,
        "error_code": refused.code,
        "base_offset": -1,
        "log_append_time": -1,
        "error_message": refused.message,
    }
