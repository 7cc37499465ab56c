"""DescribeQuorum, ElectLeaders and ListPartitionReassignments of a cluster with one node."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.node import NODE_ID, Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_METADATA_TOPIC = "__cluster_metadata"
_EPOCH = 1


async def describe_quorum(node: Node, request: Request) -> Fields:
    """This node alone, leading. Its journal has no offsets: the log's end is told as 0."""
    topics = [
        {
            "topic_name": topic.topic_name,
            "partitions": [_voters(node, topic.topic_name, row) for row in topic.partitions],
        }
        for topic in request.body.topics
    ]
    listener = {"name": "CONTROLLER", "host": node.host, "port": node.port}
    nodes = [{"node_id": NODE_ID, "listeners": [listener]}]
    return {"error_message": "", "topics": topics, "nodes": nodes}


async def elect_leaders(node: Node, request: Request) -> Fields:
    """Every partition has its leader: ELECTION_NOT_NEEDED for each one named."""
    asked = request.body.topic_partitions
    rows = [
        {
            "topic": topic.topic,
            "partition_result": [_elected(node, topic.topic, index) for index in topic.partitions],
        }
        for topic in asked or ()
    ]
    if asked is None:
        rows = [{"topic": topic.name, "partition_result": ()} for topic in node.topics]
    return {"replica_election_results": rows}


async def list_partition_reassignments(node: Node, request: Request) -> Fields:
    """None: there is nowhere to move to."""
    return {"topics": ()}


def _voters(node: Node, topic: str, asked: Any) -> Fields:
    if topic != _METADATA_TOPIC or asked.partition_index != 0:
        return {
            "partition_index": asked.partition_index,
            "error_code": ErrorCode.unknown_topic_or_partition,
        }
    now_ms = node.clock.now_ms()
    voter = {
        "replica_id": NODE_ID,
        "log_end_offset": 0,
        "last_fetch_timestamp": now_ms,
        "last_caught_up_timestamp": now_ms,
    }
    return {
        "partition_index": 0,
        "error_message": "",
        "leader_id": NODE_ID,
        "leader_epoch": _EPOCH,
        "current_voters": [voter],
    }


def _elected(node: Node, topic: str, index: int) -> Fields:
    is_known = node.topics.has(topic, index)
    code = ErrorCode.election_not_needed if is_known else ErrorCode.unknown_topic_or_partition
    return {"partition_id": index, "error_code": code}
