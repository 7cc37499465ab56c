"""AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit and EndTxn."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.groups.offsets import CommittedOffset, TopicPartition
from tidemill.broker.handlers.group_offsets import check_rows, refuse_offset_commit
from tidemill.broker.handlers.membership import refuse_plainly
from tidemill.broker.handlers.producers import before_fencing_had_a_code
from tidemill.broker.node import Node
from tidemill.broker.transactions.transaction import Transaction
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_TELLS_FENCED_FROM = 2


async def add_partitions_to_txn(node: Node, request: Request) -> Fields:
    """All of the partitions, or none if one does not exist."""
    body = request.body
    wanted = [(t.name, index) for t in body.v3_and_below_topics for index in t.partitions]
    missing = {partition for partition in wanted if not node.topics.has(*partition)}
    try:
        present = node.transactions.find(
            body.v3_and_below_transactional_id,
            body.v3_and_below_producer_id,
            body.v3_and_below_producer_epoch,
        )
        if missing:
            return _added(request, missing, ErrorCode.operation_not_attempted)
        node.transactions.add_partitions(present, wanted)
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        return _added(request, set(), _code(request, refused))
    return _added(request, set(), ErrorCode.none)


def refuse_add_partitions(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition."""
    return _added(request, set(), code)


async def add_offsets_to_txn(node: Node, request: Request) -> Fields:
    """Offsets of this group are going to be part of the transaction."""
    try:
        if not request.body.group_id:
            raise RequestRefused(ErrorCode.invalid_group_id)
        node.transactions.add_group(_present(node, request.body), request.body.group_id)
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        return refuse_plainly(request, _code(request, refused))
    return {}


async def end_txn(node: Node, request: Request) -> Fields:
    """Commits or aborts."""
    try:
        present = _present(node, request.body)
        await node.transactions.end(present, is_commit=request.body.committed)
    except RequestRefused as refused:
        return refuse_plainly(request, _code(request, refused))
    return {}


async def txn_offset_commit(node: Node, request: Request) -> Fields:
    """Offsets that wait for the transaction's outcome."""
    body = request.body
    accepted: dict[TopicPartition, CommittedOffset] = {}
    try:
        present = _present(node, body)
        node.groups.check_transactional_commit(
            body.group_id,
            getattr(body, "member_id", ""),
            getattr(body, "group_instance_id", None),
            getattr(body, "generation_id", -1),
        )
        topics = check_rows(node, body, accepted)
        node.transactions.add_offsets(present, body.group_id, accepted)
        await node.durability.confirm_journal()
    except RequestRefused as refused:
        return refuse_offset_commit(request, before_fencing_had_a_code(refused).code)
    return {"topics": topics}


def _present(node: Node, body: Any) -> Transaction:
    return node.transactions.find(body.transactional_id, body.producer_id, body.producer_epoch)


def _code(request: Request, refused: RequestRefused) -> ErrorCode:
    if request.version < _TELLS_FENCED_FROM:
        refused = before_fencing_had_a_code(refused)
    return refused.code


def _added(request: Request, missing: set[TopicPartition], otherwise: ErrorCode) -> Fields:
    def code(partition: TopicPartition) -> ErrorCode:
        return ErrorCode.unknown_topic_or_partition if partition in missing else otherwise

    topics = [
        {
            "name": topic.name,
            "results_by_partition": [
                {"partition_index": index, "partition_error_code": code((topic.name, index))}
                for index in topic.partitions
            ],
        }
        for topic in request.body.v3_and_below_topics
    ]
    return {"results_by_topic_v3_and_below": topics}
