"""The topic settings the broker honours, with Apache Kafka's names and defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.partition import AppendRules

_HIGHEST: Final = (1 << 63) - 1


class ConfigType(IntEnum):
    """Kafka's numbers for the type of a setting."""

    STRING = 2
    INT = 3
    LONG = 5
    LIST = 7


@dataclass(frozen=True, slots=True)
class ConfigRule:
    """One setting: its default and what it may be."""

    default: str
    type: ConfigType
    lowest: int = 0
    choices: tuple[str, ...] = ()


RULES: Final[dict[str, ConfigRule]] = {
    "cleanup.policy": ConfigRule("delete", ConfigType.LIST, choices=("delete",)),
    "compression.type": ConfigRule("producer", ConfigType.STRING, choices=("producer",)),
    "max.message.bytes": ConfigRule("1048588", ConfigType.INT),
    "message.timestamp.type": ConfigRule(
        "CreateTime", ConfigType.STRING, choices=("CreateTime", "LogAppendTime")
    ),
    "min.insync.replicas": ConfigRule("1", ConfigType.INT, choices=("1",)),
    "retention.bytes": ConfigRule("-1", ConfigType.LONG, lowest=-1),
    "retention.ms": ConfigRule("604800000", ConfigType.LONG, lowest=-1),
    "segment.bytes": ConfigRule("16777216", ConfigType.INT, lowest=14),
    "segment.ms": ConfigRule("604800000", ConfigType.LONG, lowest=1),
}


class TopicConfigs:
    """One topic's settings: what was set, on top of the defaults."""

    def __init__(self, overrides: Mapping[str, str | None]) -> None:
        """Raises RequestRefused with INVALID_CONFIG and what is wrong."""
        for name, value in overrides.items():
            _check(name, value)
        self.overrides: dict[str, str] = {
            name: value for name, value in overrides.items() if value is not None
        }
        self.append_rules = AppendRules(
            max_message_bytes=int(self["max.message.bytes"]),
            segment_bytes=int(self["segment.bytes"]),
            segment_ms=int(self["segment.ms"]),
            log_append_time=self["message.timestamp.type"] == "LogAppendTime",
        )

    def __getitem__(self, name: str) -> str:
        return self.overrides.get(name, RULES[name].default)

    @property
    def retention_ms(self) -> int | None:
        """How long records are kept; None is for ever."""
        value = int(self["retention.ms"])
        return None if value < 0 else value

    @property
    def retention_bytes(self) -> int | None:
        """How much of each partition is kept; None is all."""
        value = int(self["retention.bytes"])
        return None if value < 0 else value


def _check(name: str, value: str | None) -> None:
    rule = RULES.get(name)
    if rule is None:
        raise _invalid(f"{name} is not supported by the embedded broker")
    if value is None:
        raise _invalid(f"{name} has no value")
    if rule.choices and value not in rule.choices:
        raise _invalid(f"{name} must be one of {', '.join(rule.choices)}")
    if rule.type in (ConfigType.INT, ConfigType.LONG) and not _is_number(value, rule):
        raise _invalid(f"{name} must be a whole number not below {rule.lowest}")


def _is_number(value: str, rule: ConfigRule) -> bool:
    try:
        return rule.lowest <= int(value) <= _HIGHEST
    except ValueError:
        return False


def _invalid(message: str) -> RequestRefused:
    return RequestRefused(ErrorCode.invalid_config, message)
