"""Apache Kafka 4.1's settings of a topic: names, types, defaults and what each may be."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused

_INT: Final = (1 << 31) - 1
_LONG: Final = (1 << 63) - 1
_MEBIBYTE: Final = 1 << 20
_CODECS: Final = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")
_REPLICAS: Final = re.compile(r"\*|([0-9]+:[0-9]+(,[0-9]+:[0-9]+)*)?")


class ConfigType(IntEnum):
    """Kafka's numbers for the type of a setting."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


@dataclass(frozen=True, slots=True)
class ConfigRule:
    """One setting: its default and what it may be. Hidden ones are not described to clients."""

    default: str
    type: ConfigType
    lowest: int = 0
    highest: int = _LONG
    choices: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    is_hidden: bool = False


def _long(default: int, lowest: int = 0) -> ConfigRule:
    return ConfigRule(str(default), ConfigType.LONG, lowest)


def _int(default: int, lowest: int = 0, highest: int = _INT, *refused: str) -> ConfigRule:
    return ConfigRule(str(default), ConfigType.INT, lowest, highest, refused=refused)


def _choice(default: str, *choices: str) -> ConfigRule:
    return ConfigRule(default, ConfigType.STRING, choices=choices)


_BOOLEAN = ConfigRule("false", ConfigType.BOOLEAN, choices=("true", "false"))
_THROTTLED = ConfigRule("", ConfigType.LIST)

RULES: Final[Mapping[str, ConfigRule]] = MappingProxyType(
    {
        "cleanup.policy": ConfigRule("delete", ConfigType.LIST, choices=("compact", "delete")),
        "compression.gzip.level": _int(-1, -1, 9, "0"),
        "compression.lz4.level": _int(9, 1, 17),
        "compression.type": _choice("producer", *_CODECS),
        "compression.zstd.level": _int(3, -131_072, 22),
        "delete.retention.ms": _long(86_400_000),
        "file.delete.delay.ms": _long(60_000),
        "flush.messages": _long(_LONG, 1),
        "flush.ms": _long(_LONG),
        "follower.replication.throttled.replicas": _THROTTLED,
        "index.interval.bytes": _int(4_096),
        # Kafka's own door for tests: full segments without a mebibyte of records.
        "internal.segment.bytes": ConfigRule("", ConfigType.INT, 0, _INT, is_hidden=True),
        "leader.replication.throttled.replicas": _THROTTLED,
        "local.retention.bytes": _long(-2, -2),
        "local.retention.ms": _long(-2, -2),
        "max.compaction.lag.ms": _long(_LONG, 1),
        "max.message.bytes": _int(1_048_588),
        "message.timestamp.after.max.ms": _long(3_600_000),
        "message.timestamp.before.max.ms": _long(_LONG),
        "message.timestamp.type": _choice("CreateTime", "CreateTime", "LogAppendTime"),
        "min.cleanable.dirty.ratio": ConfigRule("0.5", ConfigType.DOUBLE, 0, 1),
        "min.compaction.lag.ms": _long(0),
        "min.insync.replicas": _int(1, 1),
        "preallocate": _BOOLEAN,
        "remote.log.copy.disable": _BOOLEAN,
        "remote.log.delete.on.disable": _BOOLEAN,
        "remote.storage.enable": ConfigRule("false", ConfigType.BOOLEAN, choices=("false",)),
        "retention.bytes": _long(-1, -_LONG),
        "retention.ms": _long(604_800_000, -1),
        # Kafka's default is 1 GiB.
        "segment.bytes": _int(16 * _MEBIBYTE, _MEBIBYTE),
        "segment.index.bytes": _int(10_485_760, 4),
        "segment.jitter.ms": _long(0),
        "segment.ms": _long(604_800_000, 1),
        "unclean.leader.election.enable": _BOOLEAN,
    }
)
DESCRIBED: Final = tuple(name for name, rule in RULES.items() if not rule.is_hidden)


def check(name: str, value: str | None) -> None:
    """Raises RequestRefused with INVALID_CONFIG and what the setting may be."""
    rule = RULES.get(name)
    if rule is None:
        raise invalid(f"{name} is not a setting of topics")
    if value is None:
        raise invalid(f"{name} has no value")
    problem = _problem(rule, value.strip())
    if problem:
        raise invalid(f"{name} must be {problem}")


def canonical(name: str, value: str) -> str:
    """A value that passed `check`, as it is shown."""
    kind, text = RULES[name].type, value.strip()
    if kind in (ConfigType.INT, ConfigType.LONG):
        return str(int(text))
    if kind is ConfigType.LIST:
        return ",".join(as_list(text))
    return text.lower() if kind is ConfigType.BOOLEAN else text


def as_list(value: str) -> list[str]:
    """The items of a list; an empty text has none."""
    return [item.strip() for item in value.split(",") if item.strip()]


def invalid(message: str) -> RequestRefused:
    """INVALID_CONFIG."""
    return RequestRefused(ErrorCode.invalid_config, message)


def _problem(rule: ConfigRule, value: str) -> str | None:
    if rule is _THROTTLED:
        return None if _REPLICAS.fullmatch(value) else "* or PARTITION:BROKER,PARTITION:BROKER..."
    if rule.choices:
        return _problem_of_choice(rule, value)
    is_known = not rule.refused or value not in rule.refused
    if is_known and rule.lowest <= _number(rule, value) <= rule.highest:
        return None
    kind = "number" if rule.type is ConfigType.DOUBLE else "whole number"
    return f"a {kind} from {rule.lowest} to {rule.highest}"


def _problem_of_choice(rule: ConfigRule, value: str) -> str | None:
    given = as_list(value) if rule.type is ConfigType.LIST else [value]
    if rule.type is ConfigType.BOOLEAN:
        given = [value.lower()]
    is_known = set(given) <= set(rule.choices)
    return None if is_known else f"one of {', '.join(rule.choices)}"


def _number(rule: ConfigRule, value: str) -> float:
    """NaN, which is in no range, for what is no number."""
    if rule.type is not ConfigType.DOUBLE:
        return int(value) if _NUMBER.fullmatch(value) else math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
