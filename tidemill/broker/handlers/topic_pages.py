"""DescribeTopicPartitions: topics by name, page by page."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.handlers.cluster import described
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_MOST_PARTITIONS = 2_000


async def describe_topic_partitions(node: Node, request: Request) -> Fields:
    """The asked-for topics, or all, in order of name, from the cursor on as far as the limit."""
    body = request.body
    first = (
        ("", 0) if body.cursor is None else (body.cursor.topic_name, body.cursor.partition_index)
    )
    left = min(max(body.response_partition_limit, 1), _MOST_PARTITIONS)
    topics: list[Fields] = []
    for name in sorted({topic.name for topic in body.topics or node.topics}):
        if name < first[0]:
            continue
        if left <= 0:
            return {"topics": topics, "next_cursor": _cursor(name, 0)}
        start = first[1] if name == first[0] else 0
        row = _page(node, name, start, left)
        left -= len(row["partitions"])
        topics.append(row)
        end = start + len(row["partitions"])
        if end < row.pop("count"):
            return {"topics": topics, "next_cursor": _cursor(name, end)}
    return {"topics": topics}


def refuse_topic_partitions(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    return {"topics": [{"name": t.name, "error_code": code} for t in request.body.topics]}


def _page(node: Node, name: str, start: int, limit: int) -> dict[str, Any]:
    try:
        topic = described(node.topics.get(name))
    except RequestRefused as refused:
        return {"name": name, "error_code": refused.code, "partitions": [], "count": 0}
    rows = [
        {**row, "eligible_leader_replicas": (), "last_known_elr": ()} for row in topic["partitions"]
    ]
    return {**topic, "partitions": rows[start : start + limit], "count": len(rows)}


def _cursor(name: str, index: int) -> Fields:
    return {"topic_name": name, "partition_index": index}
