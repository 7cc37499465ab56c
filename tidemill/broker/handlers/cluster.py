"""Metadata, DescribeCluster, FindCoordinator, ApiVersions: who to talk to, and how."""

from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import NODE_ID, Node
from tidemill.broker.topics import Topic
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request
from tidemill.broker.wire.versions import advertised

_EMPTY_MEANS_ALL = 0
_ASKS_TO_CREATE_FROM = 4
_NAMES_MAY_BE_NULL_FROM = 12
_NO_ID = UUID(int=0)


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
        "topics": [_topic(node, request, *asked) for asked in _asked(node, request)],
    }


def refuse_metadata(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic asked for."""
    return {
        "error_code": code,
        "controller_id": NODE_ID,
        "topics": [
            {"name": topic.name, "topic_id": _id_of(topic), "error_code": code}
            for topic in request.body.topics or ()
        ],
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


def _asked(node: Node, request: Request) -> list[tuple[str | None, UUID | None]]:
    topics = request.body.topics
    if topics is None or (request.version == _EMPTY_MEANS_ALL and not topics):
        return [(topic.name, None) for topic in node.topics]
    return [(topic.name, _id_of(topic)) for topic in topics]


def _id_of(topic: Any) -> UUID | None:
    return getattr(topic, "topic_id", None)


def _topic(node: Node, request: Request, name: str | None, topic_id: UUID | None) -> Fields:
    try:
        # As in Apache Kafka the id counts if both are given.
        if topic_id is not None or name is None:
            return described(node.topics.with_id(topic_id or _NO_ID))
        return described(_found_or_created(node, request, name))
    except RequestRefused as refused:
        return {"name": _telling(request, name), "topic_id": topic_id, "error_code": refused.code}


def _telling(request: Request, name: str | None) -> str | None:
    return "" if name is None and request.version < _NAMES_MAY_BE_NULL_FROM else name


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


def described(topic: Topic) -> Fields:
    """A topic with its partitions, as in Metadata and DescribeTopicPartitions."""
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
