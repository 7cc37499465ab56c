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
    DOUBLE = 6
    LIST = 7


@dataclass(frozen=True, slots=True)
class ConfigRule:
    """One setting: its default and what it may be."""

    default: str
    type: ConfigType
    lowest: int = 0
    choices: tuple[str, ...] = ()


RULES: Final[dict[str, ConfigRule]] = {
    "cleanup.policy": ConfigRule("delete", ConfigType.LIST, choices=("compact", "delete")),
    "compression.type": ConfigRule("producer", ConfigType.STRING, choices=("producer",)),
    "delete.retention.ms": ConfigRule("86400000", ConfigType.LONG),
    "max.compaction.lag.ms": ConfigRule(str(_HIGHEST), ConfigType.LONG, lowest=1),
    "max.message.bytes": ConfigRule("1048588", ConfigType.INT),
    "message.timestamp.type": ConfigRule(
        "CreateTime", ConfigType.STRING, choices=("CreateTime", "LogAppendTime")
    ),
    "min.cleanable.dirty.ratio": ConfigRule("0.5", ConfigType.DOUBLE),
    "min.compaction.lag.ms": ConfigRule("0", ConfigType.LONG),
    "min.insync.replicas": ConfigRule("1", ConfigType.INT, choices=("1",)),
    "retention.bytes": ConfigRule("-1", ConfigType.LONG, lowest=-1),
    "retention.ms": ConfigRule("604800000", ConfigType.LONG, lowest=-1),
    "segment.bytes": ConfigRule("16777216", ConfigType.INT, lowest=14),
    "segment.ms": ConfigRule("604800000", ConfigType.LONG, lowest=1),
}


@dataclass(frozen=True, slots=True)
class CompactionRules:
    """A compacted topic's settings; times in milliseconds, the ratio between 0 and 1."""

    min_lag_ms: int
    max_lag_ms: int
    delete_retention_ms: int
    min_dirty_ratio: float


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
            needs_keys="compact" in self._policies,
        )
        self.compaction = self._compaction() if "compact" in self._policies else None

    def __getitem__(self, name: str) -> str:
        return self.overrides.get(name, RULES[name].default)

    @property
    def retention_ms(self) -> int | None:
        """How long records are kept; None is for ever."""
        value = int(self["retention.ms"])
        return None if value < 0 or "delete" not in self._policies else value

    @property
    def retention_bytes(self) -> int | None:
        """How much of each partition is kept; None is all."""
        value = int(self["retention.bytes"])
        return None if value < 0 or "delete" not in self._policies else value

    @property
    def _policies(self) -> list[str]:
        return self["cleanup.policy"].split(",")

    def _compaction(self) -> CompactionRules:
        rules = CompactionRules(
            min_lag_ms=int(self["min.compaction.lag.ms"]),
            max_lag_ms=int(self["max.compaction.lag.ms"]),
            delete_retention_ms=int(self["delete.retention.ms"]),
            min_dirty_ratio=float(self["min.cleanable.dirty.ratio"]),
        )
        if rules.min_lag_ms > rules.max_lag_ms:
            raise _invalid("min.compaction.lag.ms is above max.compaction.lag.ms")
        return rules


def _check(name: str, value: str | None) -> None:
    rule = RULES.get(name)
    if rule is None:
        raise _invalid(f"{name} is not supported by the embedded broker")
    if value is None:
        raise _invalid(f"{name} has no value")
    given = value.split(",") if rule.type is ConfigType.LIST else [value]
    if rule.choices and not set(given) <= set(rule.choices):
        raise _invalid(f"{name} must be one of {', '.join(rule.choices)}")
    if rule.type in (ConfigType.INT, ConfigType.LONG) and not _is_number(value, rule):
        raise _invalid(f"{name} must be a whole number not below {rule.lowest}")
    if rule.type is ConfigType.DOUBLE and not _is_share(value):
        raise _invalid(f"{name} must be a number from 0 to 1")


def _is_number(value: str, rule: ConfigRule) -> bool:
    try:
        return rule.lowest <= int(value) <= _HIGHEST
    except ValueError:
        return False


def _is_share(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


def _invalid(message: str) -> RequestRefused:
    return RequestRefused(ErrorCode.invalid_config, message)
