"""Metadata, DescribeCluster, FindCoordinator, ApiVersions: who to talk to, and how."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import NODE_ID, Node
from tidemill.broker.topics import Topic
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request
from tidemill.broker.wire.versions import advertised

_EMPTY_MEANS_ALL = 0
_ASKS_TO_CREATE_FROM = 4


async def api_versions(node: Node, request: Request) -> Fields:
    """The versions spoken."""
    return {"api_keys": advertised()}


def refuse_api_versions(request: Request, code: ErrorCode) -> Fields:
    """The error, and the versions all the same, so that the client can try a lower one."""
    return {"error_code": code, "api_keys": advertised()}


async def metadata(node: Node, request: Request) -> Fields:
    """The node, and the asked-for topics with their partitions."""
    return {
        "brokers": [_node(node)],
        "cluster_id": node.cluster_id,
        "controller_id": NODE_ID,
        "topics": [_topic(node, request, name) for name in _asked(node, request)],
    }


def refuse_metadata(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic asked for."""
    names = [topic.name for topic in request.body.topics or ()]
    return {
        "controller_id": NODE_ID,
        "topics": [{"name": name, "error_code": code} for name in names],
    }


async def describe_cluster(node: Node, request: Request) -> Fields:
    """The cluster of one."""
    broker = _node(node)
    return {
        "cluster_id": node.cluster_id,
        "controller_id": NODE_ID,
        "brokers": [{**broker, "broker_id": NODE_ID}],
    }


async def find_coordinator(node: Node, request: Request) -> Fields:
    """This node, for groups and for transactions."""
    return _node(node)


def refuse_find_coordinator(request: Request, code: ErrorCode) -> Fields:
    """The error, and no node."""
    return {"error_code": code, "node_id": -1, "port": -1}


def _node(node: Node) -> dict[str, Any]:
    return {"node_id": NODE_ID, "host": node.host, "port": node.port}


def _asked(node: Node, request: Request) -> list[str]:
    topics = request.body.topics
    if topics is None or (request.version == _EMPTY_MEANS_ALL and not topics):
        return [topic.name for topic in node.topics]
    return [topic.name for topic in topics]


def _topic(node: Node, request: Request, name: str) -> Fields:
    try:
        return _described(_found_or_created(node, request, name))
    except RequestRefused as refused:
        return {"name": name, "error_code": refused.code}


def _found_or_created(node: Node, request: Request, name: str) -> Topic:
    may_create = node.settings.auto_create_topics and (
        request.version < _ASKS_TO_CREATE_FROM or request.body.allow_auto_topic_creation
    )
    try:
        return node.topics.get(name)
    except RequestRefused:
        if not may_create:
            raise
    node.topics.create(name, -1, {})
    return node.topics.get(name)


def _described(topic: Topic) -> Fields:
    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "partitions": [
            {
                "partition_index": index,
                "leader_id": NODE_ID,
                "leader_epoch": 0,
                "replica_nodes": [NODE_ID],
                "isr_nodes": [NODE_ID],
            }
            for index in range(len(topic.partitions))
        ],
    }
