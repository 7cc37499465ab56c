"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs."""

from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.node import NODE_ID, Node
from tidemill.broker.settings import BrokerSettings
from tidemill.broker.topic_configs import TopicConfigs
from tidemill.broker.topic_rules import DESCRIBED, RULES, ConfigType, as_list
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request

_TOPIC = 2
_BROKER = 4
_SOURCE_TOPIC = 1
_SOURCE_BROKER = 4
_SOURCE_DEFAULT = 5
_ALL_BROKERS = ""
_SET, _DELETE, _APPEND, _SUBTRACT = range(4)


async def describe_configs(node: Node, request: Request) -> Fields:
    """Settings of topics, and the few of the broker that clients can make use of."""
    return {"results": [_describe(node, resource) for resource in request.body.resources]}


def refuse_describe_configs(request: Request, code: ErrorCode) -> Fields:
    """The same error for every resource."""
    return {"results": _all_failed(request, code)}


async def alter_configs(node: Node, request: Request) -> Fields:
    """Replaces all settings of a topic by those named."""
    rows = [_replace(node, resource, request) for resource in request.body.resources]
    await node.durability.confirm_journal()
    return {"responses": rows}


async def incremental_alter_configs(node: Node, request: Request) -> Fields:
    """Changes the named settings of a topic, leaving the others."""
    rows = [_change(node, resource, request) for resource in request.body.resources]
    await node.durability.confirm_journal()
    return {"responses": rows}


def refuse_alter_configs(request: Request, code: ErrorCode) -> Fields:
    """The same error for every resource; also for the incremental kind."""
    return {"responses": _all_failed(request, code)}


def _describe(node: Node, resource: Any) -> Fields:
    try:
        rows = _rows(node, resource)
    except RequestRefused as refused:
        return _failed(resource, refused)
    wanted = resource.configuration_keys
    # As in Apache Kafka naming none of them asks for all.
    chosen = [row for row in rows if not wanted or row["name"] in wanted]
    return {**_named(resource), "configs": chosen}


def _rows(node: Node, resource: Any) -> list[dict[str, Any]]:
    if resource.resource_type == _TOPIC:
        configs = node.topics.get(resource.resource_name).configs
        return [_topic_row(configs, name) for name in DESCRIBED]
    if resource.resource_type == _BROKER and resource.resource_name in (str(NODE_ID), _ALL_BROKERS):
        return [_broker_row(name, value) for name, value in _broker(node.settings).items()]
    raise RequestRefused(ErrorCode.invalid_request, "no such resource")


def _topic_row(configs: TopicConfigs, name: str) -> dict[str, Any]:
    source = _SOURCE_TOPIC if name in configs.overrides else _SOURCE_DEFAULT
    return {
        "name": name,
        "value": configs[name],
        "config_source": source,
        "config_type": RULES[name].type,
        "synonyms": [{"name": name, "value": configs[name], "source": source}],
    }


def _broker_row(name: str, value: str) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "read_only": True,
        "config_source": _SOURCE_BROKER,
        "config_type": ConfigType.STRING,
    }


def _broker(settings: BrokerSettings) -> dict[str, str]:
    groups = settings.groups
    return {
        "auto.create.topics.enable": str(settings.auto_create_topics).lower(),
        "group.initial.rebalance.delay.ms": str(groups.initial_delay_ms),
        "group.max.session.timeout.ms": str(groups.max_session_ms),
        "group.min.session.timeout.ms": str(groups.min_session_ms),
        "log.cleaner.backoff.ms": str(settings.retention_check_ms),
        "log.retention.check.interval.ms": str(settings.retention_check_ms),
        "num.partitions": str(settings.default_partitions),
        "socket.request.max.bytes": str(settings.connections.max_request_bytes),
    }


def _replace(node: Node, resource: Any, request: Request) -> Fields:
    overrides = {config.name: config.value for config in resource.configs}
    return _apply(node, resource, overrides, request)


def _change(node: Node, resource: Any, request: Request) -> Fields:
    try:
        _check_topic(resource)
        current = node.topics.get(resource.resource_name).configs.overrides
        overrides = _changed(dict(current), resource.configs)
    except RequestRefused as refused:
        return _failed(resource, refused)
    return _apply(node, resource, overrides, request)


def _changed(overrides: dict[str, str | None], changes: Any) -> dict[str, str | None]:
    for change in changes:
        if change.config_operation == _SET:
            overrides[change.name] = change.value
        elif change.config_operation == _DELETE:
            overrides.pop(change.name, None)
        else:
            overrides[change.name] = _edited_list(overrides, change)
    return overrides


def _edited_list(overrides: dict[str, str | None], change: Any) -> str:
    rule = RULES.get(change.name)
    if rule is None or rule.type is not ConfigType.LIST:
        raise RequestRefused(ErrorCode.invalid_config, f"{change.name} is not a list")
    present = as_list(overrides.get(change.name) or rule.default)
    given = as_list(change.value or "")
    if change.config_operation == _APPEND:
        return ",".join([*present, *(item for item in given if item not in present)])
    return ",".join(item for item in present if item not in given)


def _apply(node: Node, resource: Any, overrides: dict[str, str | None], request: Request) -> Fields:
    try:
        _check_topic(resource)
        node.topics.configure(
            resource.resource_name, overrides, validate_only=request.body.validate_only
        )
    except RequestRefused as refused:
        return _failed(resource, refused)
    return _named(resource)


def _check_topic(resource: Any) -> None:
    if resource.resource_type != _TOPIC:
        raise RequestRefused(
            ErrorCode.invalid_request, "only settings of topics can be changed while running"
        )


def _named(resource: Any) -> dict[str, Any]:
    return {"resource_type": resource.resource_type, "resource_name": resource.resource_name}


def _failed(resource: Any, refused: RequestRefused) -> Fields:
    return {
        **_named(resource),
        "error_code": refused.code,
        "error_message": refused.message,
    }


def _all_failed(request: Request, code: ErrorCode) -> list[Fields]:
    return [_failed(resource, RequestRefused(code)) for resource in request.body.resources]
