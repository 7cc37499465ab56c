"""Committed offsets of all groups, in memory and as journal records."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tidemill.broker.storage.journal import Record

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """What a group committed for one partition, and when."""

    offset: int
    leader_epoch: int
    metadata: str
    committed_ms: int


class GroupOffsets:
    """Offsets by group and partition. Makes the records; the caller journals them first."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[TopicPartition, CommittedOffset]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._groups))

    def of(self, group_id: str) -> dict[TopicPartition, CommittedOffset]:
        """A copy of a group's offsets; empty for an unknown group."""
        return dict(self._groups.get(group_id, {}))

    def put(self, group_id: str, rows: dict[TopicPartition, CommittedOffset]) -> None:
        """Adds to or replaces a group's offsets."""
        self._groups.setdefault(group_id, {}).update(rows)

    def remove(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Forgets offsets of a group."""
        rows = self._groups.get(group_id, {})
        for partition in partitions:
            rows.pop(partition, None)
        if not rows:
            self._groups.pop(group_id, None)

    def remove_group(self, group_id: str) -> None:
        """Forgets a group."""
        self._groups.pop(group_id, None)

    def remove_topic(self, topic: str) -> None:
        """Forgets a deleted topic in every group."""
        for group_id in self:
            gone = [key for key in self._groups[group_id] if key[0] == topic]
            self.remove(group_id, gone)

    def replay(self, record: Record) -> None:
        """Takes one journal record of any kind that concerns offsets."""
        match record["kind"]:
            case "offsets":
                rows = {(t, p): CommittedOffset(*row) for t, p, *row in record["rows"]}
                self.put(record["group"], rows)
            case "offsets_deleted":
                self.remove(record["group"], [(t, p) for t, p in record["rows"]])
            case "group_deleted":
                self.remove_group(record["group"])
            case "topic_deleted":
                self.remove_topic(record["name"])

    def snapshot(self) -> Iterator[Record]:
        """Journal records that give the present state."""
        for group_id, rows in self._groups.items():
            yield offsets_record(group_id, rows)


def offsets_record(group_id: str, rows: dict[TopicPartition, CommittedOffset]) -> Record:
    """The journal record of a commit."""
    return {
        "kind": "offsets",
        "group": group_id,
        "rows": [
            [topic, index, row.offset, row.leader_epoch, row.metadata, row.committed_ms]
            for (topic, index), row in rows.items()
        ],
    }
