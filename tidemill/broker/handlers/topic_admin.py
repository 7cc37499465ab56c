"""CreateTopics, DeleteTopics and CreatePartitions."""

from collections import Counter
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import Node
from tidemill.broker.topic_configs import TopicConfigs
from tidemill.broker.topic_rules import DESCRIBED
from tidemill.broker.topics import Topic
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_TOPIC_CONFIG = 1
_DEFAULT_CONFIG = 5
_DELETES_BY_ID_FROM = 6
_NO_ID = UUID(int=0)


async def create_topics(node: Node, request: Request) -> Fields:
    """Each topic succeeds or fails by itself."""
    named = Counter(topic.name for topic in request.body.topics)
    rows = [
        _create(node, topic, request, is_twice=named[topic.name] > 1)
        for topic in request.body.topics
    ]
    await node.durability.confirm_journal()
    return {"topics": rows}


def refuse_create_topics(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    return {"topics": [_failed(t.name, RequestRefused(code)) for t in request.body.topics]}


async def delete_topics(node: Node, request: Request) -> Fields:
    """Each topic succeeds or fails by itself; committed offsets go with their topic."""
    rows = [_delete(node, name, topic_id) for name, topic_id in _doomed(request)]
    await node.durability.confirm_journal()
    return {"responses": rows}


def refuse_delete_topics(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    refused = RequestRefused(code)
    rows = [{**_failed(name, refused), "topic_id": given} for name, given in _doomed(request)]
    return {"responses": rows}


async def create_partitions(node: Node, request: Request) -> Fields:
    """Each topic succeeds or fails by itself."""
    rows = [_grow(node, topic, request.body.validate_only) for topic in request.body.topics]
    await node.durability.confirm_journal()
    return {"results": rows}


def refuse_create_partitions(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    return {"results": [_failed(t.name, RequestRefused(code)) for t in request.body.topics]}


def _create(node: Node, asked: Any, request: Request, *, is_twice: bool) -> Fields:
    overrides = {config.name: config.value for config in asked.configs}
    try:
        if is_twice:
            raise RequestRefused(ErrorCode.invalid_request, "the topic is named twice")
        count = node.topics.create(
            asked.name,
            _partition_count(asked),
            overrides,
            validate_only=request.body.validate_only,
        )
        configs = TopicConfigs(overrides)
    except RequestRefused as refused:
        return _failed(asked.name, refused)
    return {
        "name": asked.name,
        "topic_id": None if request.body.validate_only else node.topics.get(asked.name).topic_id,
        "num_partitions": count,
        "replication_factor": 1,
        "configs": [_config_row(configs, name) for name in DESCRIBED],
    }


def _partition_count(asked: Any) -> int:
    if asked.assignments:
        if any(len(row.broker_ids) != 1 for row in asked.assignments):
            raise RequestRefused(ErrorCode.invalid_replica_assignment, "there is one node")
        return len(asked.assignments)
    if asked.replication_factor not in (-1, 1):
        raise RequestRefused(
            ErrorCode.invalid_replication_factor, "there is one node, so one replica"
        )
    if asked.num_partitions == 0 or asked.num_partitions < -1:
        raise RequestRefused(ErrorCode.invalid_partitions, "at least one partition")
    return int(asked.num_partitions)


def _config_row(configs: TopicConfigs, name: str) -> Fields:
    is_set = name in configs.overrides
    source = _TOPIC_CONFIG if is_set else _DEFAULT_CONFIG
    return {"name": name, "value": configs[name], "config_source": source}


def _doomed(request: Request) -> list[tuple[str | None, UUID | None]]:
    if request.version < _DELETES_BY_ID_FROM:
        return [(name, None) for name in request.body.topic_names]
    return [(topic.name, topic.topic_id) for topic in request.body.topics]


def _delete(node: Node, name: str | None, topic_id: UUID | None) -> Fields:
    try:
        topic = _named(node, name, topic_id)
        node.topics.delete(topic.name)
    except RequestRefused as refused:
        return {**_failed(name, refused), "topic_id": topic_id}
    node.groups.offsets.remove_topic(topic.name)
    node.transactions.forget_topic(topic.name)
    return {"name": topic.name, "topic_id": topic.topic_id}


def _named(node: Node, name: str | None, topic_id: UUID | None) -> Topic:
    if name is not None and topic_id is not None:
        raise RequestRefused(ErrorCode.invalid_request, "name or id, not both")
    if name is not None:
        return node.topics.get(name)
    return node.topics.with_id(topic_id or _NO_ID)


def _grow(node: Node, asked: Any, validate_only: bool) -> Fields:
    try:
        node.topics.grow(asked.name, asked.count, validate_only=validate_only)
    except RequestRefused as refused:
        return _failed(asked.name, refused)
    return {"name": asked.name}


def _failed(name: str | None, refused: RequestRefused) -> Fields:
    return {
        "name": name,
        "error_code": refused.code,
        "error_message": refused.message,
        "num_partitions": -1,
        "replication_factor": -1,
        "configs": (),
    }
