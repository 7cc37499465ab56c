"""DescribeLogDirs, DescribeProducers, ListTransactions, DescribeTransactions: a look inside."""

import shutil
from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import Node
from tidemill.broker.storage.producers import ActiveProducer
from tidemill.broker.topics import Topic
from tidemill.broker.transactions.transaction import Transaction, TransactionState
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_NOT_OPEN = -1


async def describe_log_dirs(node: Node, request: Request) -> Fields:
    """The one folder, with the sizes of the asked-for partitions; null asks for all."""
    asked = request.body.topics
    wanted = None if asked is None else {row.topic: set(row.partitions) for row in asked}
    topics = [
        {"name": topic.name, "partitions": _sizes(topic, wanted)}
        for topic in node.topics
        if wanted is None or topic.name in wanted
    ]
    folder = node.settings.data_dir
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return {"results": [{"log_dir": str(folder), "topics": topics}]}
    row = {"log_dir": str(folder.absolute()), "topics": topics}
    return {"results": [{**row, "total_bytes": usage.total, "usable_bytes": usage.free}]}


async def describe_producers(node: Node, request: Request) -> Fields:
    """Who has written to the partitions with a producer id."""
    return _per_partition(request, lambda topic, index: _producers(node, topic, index))


def refuse_producers(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition."""
    return _per_partition(request, lambda topic, index: {"error_code": code})


async def list_transactions(node: Node, request: Request) -> Fields:
    """All transactional ids, or those in some states, of some producers, or open for so long."""
    body = request.body
    states, producers = set(body.state_filters), set(body.producer_id_filters)
    longer_than = getattr(body, "duration_filter", _NOT_OPEN)
    begun_before = node.clock.now_ms() - longer_than
    rows = [
        {
            "transactional_id": row.transactional_id,
            "producer_id": row.producer_id,
            "transaction_state": row.state,
        }
        for row in node.transactions.all()
        if (not states or row.state in states)
        and (not producers or row.producer_id in producers)
        and (longer_than < 0 or _NOT_OPEN < row.started_ms < begun_before)
    ]
    unknown = sorted(states - set(TransactionState))
    return {"unknown_state_filters": unknown, "transaction_states": rows}


async def describe_transactions(node: Node, request: Request) -> Fields:
    """State and partitions of each transactional id."""
    known = {row.transactional_id: row for row in node.transactions.all()}
    rows = [_transaction(name, known.get(name)) for name in request.body.transactional_ids]
    return {"transaction_states": rows}


def refuse_transactions(request: Request, code: ErrorCode) -> Fields:
    """The same error for every transactional id."""
    ids = request.body.transactional_ids
    return {"transaction_states": [{"transactional_id": name, "error_code": code} for name in ids]}


def _sizes(topic: Topic, wanted: dict[str, set[int]] | None) -> list[Fields]:
    return [
        {"partition_index": index, "partition_size": partition.size}
        for index, partition in enumerate(topic.partitions)
        if wanted is None or index in wanted[topic.name]
    ]


def _per_partition(request: Request, row: Any) -> Fields:
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": index, **row(topic.name, index)}
                    for index in topic.partition_indexes
                ],
            }
            for topic in request.body.topics
        ]
    }


def _producers(node: Node, topic: str, index: int) -> Fields:
    try:
        partition = node.topics.partition(topic, index)
    except RequestRefused as refused:
        return {"error_code": refused.code}
    return {"active_producers": [_producer(row) for row in partition.producers.active()]}


def _producer(row: ActiveProducer) -> Fields:
    return {
        "producer_id": row.producer_id,
        "producer_epoch": row.epoch,
        "last_sequence": row.last_sequence,
        "last_timestamp": row.seen_ms,
        "coordinator_epoch": -1,
        "current_txn_start_offset": (
            _NOT_OPEN if row.open_since_offset is None else row.open_since_offset
        ),
    }


def _transaction(name: str, row: Transaction | None) -> Fields:
    if row is None:
        return {"transactional_id": name, "error_code": ErrorCode.transactional_id_not_found}
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(row.partitions):
        topics.setdefault(topic, []).append(index)
    return {
        "transactional_id": name,
        "transaction_state": row.state,
        "transaction_timeout": row.timeout_ms,
        "transaction_start_time": row.started_ms,
        "producer_id": row.producer_id,
        "producer_epoch": row.epoch,
        "topics": [{"topic": topic, "partitions": rows} for topic, rows in topics.items()],
    }
