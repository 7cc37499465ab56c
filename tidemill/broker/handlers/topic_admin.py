"""CreateTopics, DeleteTopics and CreatePartitions."""

from collections import Counter
from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import Node
from tidemill.broker.topic_configs import RULES, TopicConfigs
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_TOPIC_CONFIG = 1
_DEFAULT_CONFIG = 5


async def create_topics(node: Node, request: Request) -> Fields:
    """Each topic succeeds or fails by itself."""
    named = Counter(topic.name for topic in request.body.topics)
    rows = [
        _create(node, topic, request.body.validate_only, is_twice=named[topic.name] > 1)
        for topic in request.body.topics
    ]
    await node.durability.confirm_journal()
    return {"topics": rows}


def refuse_create_topics(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    return {"topics": [_failed(t.name, RequestRefused(code)) for t in request.body.topics]}


async def delete_topics(node: Node, request: Request) -> Fields:
    """Each topic succeeds or fails by itself; committed offsets go with their topic."""
    rows = [_delete(node, name) for name in request.body.topic_names]
    await node.durability.confirm_journal()
    return {"responses": rows}


def refuse_delete_topics(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    names = request.body.topic_names
    return {"responses": [_failed(name, RequestRefused(code)) for name in names]}


async def create_partitions(node: Node, request: Request) -> Fields:
    """Each topic succeeds or fails by itself."""
    rows = [_grow(node, topic, request.body.validate_only) for topic in request.body.topics]
    await node.durability.confirm_journal()
    return {"results": rows}


def refuse_create_partitions(request: Request, code: ErrorCode) -> Fields:
    """The same error for every topic."""
    return {"results": [_failed(t.name, RequestRefused(code)) for t in request.body.topics]}


def _create(node: Node, asked: Any, validate_only: bool, *, is_twice: bool) -> Fields:
    overrides = {config.name: config.value for config in asked.configs}
    try:
        if is_twice:
            raise RequestRefused(ErrorCode.invalid_request, "the topic is named twice")
        count = node.topics.create(
            asked.name, _partition_count(asked), overrides, validate_only=validate_only
        )
        configs = TopicConfigs(overrides)
    except RequestRefused as refused:
        return _failed(asked.name, refused)
    return {
        "name": asked.name,
        "num_partitions": count,
        "replication_factor": 1,
        "configs": [_config_row(configs, name) for name in RULES],
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


def _delete(node: Node, name: str) -> Fields:
    try:
        node.topics.delete(name)
    except RequestRefused as refused:
        return _failed(name, refused)
    node.groups.offsets.remove_topic(name)
    node.transactions.forget_topic(name)
    return {"name": name}


def _grow(node: Node, asked: Any, validate_only: bool) -> Fields:
    try:
        node.topics.grow(asked.name, asked.count, validate_only=validate_only)
    except RequestRefused as refused:
        return _failed(asked.name, refused)
    return {"name": asked.name}


def _failed(name: str, refused: RequestRefused) -> Fields:
    return {"name": name, "error_code": refused.code, "error_message": refused.message}
