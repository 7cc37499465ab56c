"""One topic's settings, and what the broker makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tidemill.broker.storage.partition import AppendRules
from tidemill.broker.topic_rules import RULES, as_list, canonical, check, invalid


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
            check(name, value)
        given = {name: value for name, value in overrides.items() if value is not None}
        self._take({name: canonical(name, value) for name, value in given.items()})
        if self.compaction and self.compaction.min_lag_ms > self.compaction.max_lag_ms:
            raise invalid("min.compaction.lag.ms must not be above max.compaction.lag.ms")

    @classmethod
    def restored(cls, overrides: Mapping[str, str]) -> Self:
        """Those of a topic made earlier, whatever was allowed then."""
        configs = cls.__new__(cls)
        configs._take(dict(overrides))
        return configs

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
        return as_list(self["cleanup.policy"])

    def _take(self, overrides: dict[str, str]) -> None:
        self.overrides = overrides
        self.append_rules = AppendRules(
            max_message_bytes=int(self["max.message.bytes"]),
            segment_bytes=int(self["internal.segment.bytes"] or self["segment.bytes"]),
            segment_ms=int(self["segment.ms"]),
            log_append_time=self["message.timestamp.type"] == "LogAppendTime",
            needs_keys="compact" in self._policies,
        )
        self.compaction = self._compaction() if "compact" in self._policies else None

    def _compaction(self) -> CompactionRules:
        return CompactionRules(
            min_lag_ms=int(self["min.compaction.lag.ms"]),
            max_lag_ms=int(self["max.compaction.lag.ms"]),
            delete_retention_ms=int(self["delete.retention.ms"]),
            min_dirty_ratio=float(self["min.cleanable.dirty.ratio"]),
        )
