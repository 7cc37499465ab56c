"""The topics there are: creation, growth, settings and deletion, each journaled first."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from kio.schema.errors import ErrorCode

from tidemill.broker.clock import Clock
from tidemill.broker.errors import RequestRefused
from tidemill.broker.storage.data_directory import DataDirectory
from tidemill.broker.storage.disk import Disk
from tidemill.broker.storage.journal import Journal, Record
from tidemill.broker.storage.partition import Partition
from tidemill.broker.storage.partition_files import open_partition
from tidemill.broker.topic_configs import TopicConfigs

_LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(slots=True)
class Topic:
    """One topic and its open partitions."""

    name: str
    topic_id: UUID
    configs: TopicConfigs
    partitions: list[Partition]


class Topics:
    """All topics by name. Methods that change something raise RequestRefused."""

    def __init__(
        self,
        directory: DataDirectory,
        journal: Journal,
        disk: Disk,
        clock: Clock,
        *,
        default_partitions: int,
        max_partitions: int,
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._disk = disk
        self._clock = clock
        self._default_partitions = default_partitions
        self._max_partitions = max_partitions
        self._topics: dict[str, Topic] = {}
        self._replayed: dict[str, Record] = {}
        self._replayed_starts: dict[tuple[str, int], int] = {}

    def __iter__(self) -> Iterator[Topic]:
        return iter(list(self._topics.values()))

    def get(self, name: str) -> Topic:
        """The topic, or RequestRefused with UNKNOWN_TOPIC_OR_PARTITION."""
        topic = self._topics.get(name)
        if topic is None:
            raise RequestRefused(ErrorCode.unknown_topic_or_partition)
        return topic

    def with_id(self, topic_id: UUID) -> Topic:
        """The topic, or RequestRefused with UNKNOWN_TOPIC_ID."""
        for topic in self:
            if topic.topic_id == topic_id:
                return topic
        raise RequestRefused(ErrorCode.unknown_topic_id)

    def partition(self, name: str, index: int) -> Partition:
        """The partition, or RequestRefused with UNKNOWN_TOPIC_OR_PARTITION."""
        partitions = self.get(name).partitions
        if not 0 <= index < len(partitions):
            raise RequestRefused(ErrorCode.unknown_topic_or_partition)
        return partitions[index]

    def has(self, name: str, index: int) -> bool:
        """Whether there is such a partition."""
        topic = self._topics.get(name)
        return topic is not None and 0 <= index < len(topic.partitions)

    def create(
        self,
        name: str,
        partitions: int,
        overrides: Mapping[str, str | None],
        *,
        validate_only: bool = False,
    ) -> int:
        """Creates a topic; -1 partitions means the default. Returns the number it gets."""
        if not _LEGAL_NAME.fullmatch(name) or name in (".", ".."):
            raise RequestRefused(ErrorCode.invalid_topic_exception, "not a legal topic name")
        if name in self._topics:
            raise RequestRefused(ErrorCode.topic_already_exists, "the topic exists")
        count = self._default_partitions if partitions == -1 else partitions
        self._check_room(count)
        configs = TopicConfigs(overrides)
        if not validate_only:
            topic = Topic(name, uuid4(), configs, [])
            self._open_partitions(topic, count)
            self._append(_topic_record(topic, count))
            self._topics[name] = topic
        return count

    def grow(self, name: str, count: int, *, validate_only: bool = False) -> None:
        """Gives a topic more partitions."""
        topic = self.get(name)
        if count <= len(topic.partitions):
            raise RequestRefused(
                ErrorCode.invalid_partitions, f"the topic has {len(topic.partitions)} partitions"
            )
        self._check_room(count - len(topic.partitions))
        if not validate_only:
            grown = Topic(topic.name, topic.topic_id, topic.configs, list(topic.partitions))
            self._open_partitions(grown, count)
            self._append(_topic_record(grown, count))
            topic.partitions = grown.partitions

    def configure(
        self, name: str, overrides: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """Replaces a topic's settings."""
        topic = self.get(name)
        configs = TopicConfigs(overrides)
        if not validate_only:
            changed = Topic(topic.name, topic.topic_id, configs, topic.partitions)
            self._append(_topic_record(changed, len(topic.partitions)))
            topic.configs = configs

    def delete(self, name: str) -> None:
        """Deletes a topic and its records."""
        topic = self.get(name)
        self._append({"kind": "topic_deleted", "name": name})
        del self._topics[name]
        for partition in topic.partitions:
            partition.close()
        self._directory.remove_topic(topic.topic_id, name)

    def delete_records(self, name: str, index: int, before: int) -> int:
        """Makes `before` the first readable offset (-1: the end); returns the new first one."""
        partition = self.partition(name, index)
        offset = partition.end_offset if before == -1 else before
        if not 0 <= offset <= partition.end_offset:
            raise RequestRefused(ErrorCode.offset_out_of_range)
        if offset > partition.start_offset:
            self._append(_start_record(name, index, offset))
            partition.delete_before(offset)
        return partition.start_offset

    def replay(self, record: Record) -> None:
        """Takes one journal record; call `open` after the last one."""
        name = record["name"]
        if record["kind"] == "topic":
            self._replayed[name] = record
        elif record["kind"] == "topic_deleted":
            self._replayed.pop(name, None)
            self._replayed_starts = {
                key: start for key, start in self._replayed_starts.items() if key[0] != name
            }
        elif record["kind"] == "log_start":
            self._replayed_starts[name, record["partition"]] = record["offset"]

    def open(self) -> None:
        """Opens all partitions of the replayed topics; raises OSError."""
        for name, record in self._replayed.items():
            configs = TopicConfigs.restored(record["configs"])
            topic = Topic(name, UUID(record["id"]), configs, [])
            self._open_partitions(topic, record["partitions"])
            self._topics[name] = topic
        for (name, index), offset in self._replayed_starts.items():
            self.partition(name, index).delete_before(offset)
        self._directory.remove_all_but({t.topic_id: t.name for t in self})

    def snapshot(self) -> Iterator[Record]:
        """Journal records that give the present state."""
        for topic in self:
            yield _topic_record(topic, len(topic.partitions))
            for index, partition in enumerate(topic.partitions):
                if partition.start_offset > partition.segments[0].base_offset:
                    yield _start_record(topic.name, index, partition.start_offset)

    def _check_room(self, more: int) -> None:
        if more < 1:
            raise RequestRefused(ErrorCode.invalid_partitions, "at least one partition")
        present = sum(len(topic.partitions) for topic in self)
        if present + more > self._max_partitions:
            raise RequestRefused(
                ErrorCode.policy_violation,
                f"the broker holds at most {self._max_partitions} partitions",
            )

    def _open_partitions(self, topic: Topic, count: int) -> None:
        for index in range(len(topic.partitions), count):
            path = self._directory.partition_path(topic.topic_id, topic.name, index)
            try:
                partition = open_partition(path, self._disk, self._clock.now_ms())
            except OSError as error:
                raise RequestRefused(ErrorCode.kafka_storage_error, "the disk refused") from error
            topic.partitions.append(partition)

    def _append(self, record: Record) -> None:
        try:
            self._journal.append(record)
        except OSError as error:
            raise RequestRefused(ErrorCode.kafka_storage_error, "the disk refused") from error


def _topic_record(topic: Topic, count: int) -> Record:
    return {
        "kind": "topic",
        "name": topic.name,
        "id": topic.topic_id.hex,
        "partitions": count,
        "configs": topic.configs.overrides,
    }


def _start_record(name: str, index: int, offset: int) -> Record:
    return {"kind": "log_start", "name": name, "partition": index, "offset": offset}
