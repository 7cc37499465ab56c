"""The log from its beginning, topics merged by the broker's time; read without a group."""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from tidemill.bus.dead_letters.log import MAX_SILENT_POLLS, POLL_MS, broker_faults, reading
from tidemill.bus.dead_letters.status import HEALED
from tidemill.bus.envelope import CONSUMER, DEAD_LETTER_ID, EVENT_ID, ORIGIN, REASON, Record
from tidemill.bus.kafka import record_of
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, Retention


class LogCut(Exception):
    """The beginning of a topic is gone, so what it said cannot be told again."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


@dataclass
class Reading:
    """How far topics were read; the next pass goes on there.

    Within a partition the order is the log's. Between partitions the broker's time decides, then
    the order of the names. Of commands and dead letters the beginning may be gone.
    """

    bootstrap: str
    names: Sequence[str]
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    limits: dict[TopicPartition, int] = field(default_factory=dict)

    async def mark(self) -> None:
        """The next pass ends where the log ends now."""
        async with reading(self.bootstrap, list(self.names)) as consumer, broker_faults():
            self.limits = await consumer.end_offsets(sorted(consumer.assignment()))

    async def records(self) -> AsyncIterator[Record]:
        """What is there now and was not read before. Raises LogCut, Fault."""
        async with reading(self.bootstrap, list(self.names)) as consumer:
            ends = await self._seek(consumer)
            heads = _Heads(consumer, ends, list(self.names))
            while (raw := await heads.next()) is not None:
                yield record_of(raw)
            self.positions |= ends
        self.limits = {}

    async def _seek(self, consumer: Any) -> dict[TopicPartition, int]:
        partitions = sorted(consumer.assignment())
        async with broker_faults():
            starts = await consumer.beginning_offsets(partitions)
            ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        ends |= self.limits
        for partition in partitions:
            start = starts[partition]
            if start > 0 and is_kept(partition.topic):
                raise LogCut(partition.topic)
            consumer.seek(partition, max(start, self.positions.get(partition, start)))
        return ends


def is_kept(name: str) -> bool:
    """Whether every record of the topic is there, since it holds facts."""
    return any(each.name == name and each.retention is Retention.FACTS for each in CATALOGUE)


class _Heads:
    """The first unread record of each partition."""

    def __init__(
        self, consumer: Any, ends: dict[TopicPartition, int], names: Sequence[str]
    ) -> None:
        self._consumer = consumer
        self._open = dict(ends)
        self._waiting: dict[TopicPartition, deque[Any]] = {p: deque() for p in ends}
        self._rank = {name: place for place, name in enumerate(names)}

    async def next(self) -> Any:
        """The oldest of them; None when all is read."""
        await self._fill()
        heads = [records[0] for records in self._waiting.values() if records]
        if not heads:
            return None
        first = min(heads, key=lambda r: (r.timestamp, self._rank[r.topic], r.partition))
        return self._waiting[TopicPartition(first.topic, first.partition)].popleft()

    async def _fill(self) -> None:
        """Every partition that is not at its end shows a record."""
        silent = 0
        while empty := [p for p in self._open if not self._waiting[p]]:
            async with broker_faults():
                for partition in empty:
                    if await self._consumer.position(partition) >= self._open[partition]:
                        del self._open[partition]
                left = [p for p in empty if p in self._open]
                found = await self._consumer.getmany(*left, timeout_ms=POLL_MS) if left else {}
            silent = 0 if found or not left else silent + 1
            if silent > MAX_SILENT_POLLS:
                raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker")
            for partition, records in found.items():
                self._take(partition, records)

    def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        """What came after the pass began belongs to the next one."""
        end = self._open[partition]
        self._waiting[partition].extend(record for record in records if record.offset < end)


@dataclass
class Published:
    """Ids of the events and dead letters that are on the log."""

    events: Reading
    letters: Reading
    ids: set[tuple[str, str, str]] = field(default_factory=set)
    # Of a consumer: the places of the records that it gave up, and why.
    dead_lettered: dict[str, dict[str, str]] = field(default_factory=dict)
    lettered: set[tuple[str, bytes, str, str]] = field(default_factory=set)
    healed: set[tuple[str, bytes, str, str]] = field(default_factory=set)

    async def read(self) -> None:
        """What was not read before."""
        async for record in self.events.records():
            self.ids.add((record.topic, _tenant(record.key), record.event_id))
        async for record in self.letters.records():
            letter_id = record.headers.get(DEAD_LETTER_ID)
            if HEALED in record.headers:
                self.healed.add(_event_of(record.topic, record.key, record.headers))
            elif letter_id:
                self._add_letter(record, letter_id)

    def _add_letter(self, record: Record, letter_id: str) -> None:
        self.lettered.add(_event_of(record.topic, record.key, record.headers))
        self.ids.add((record.topic, "", letter_id))
        places = self.dead_lettered.setdefault(record.headers.get(CONSUMER, ""), {})
        places[record.headers.get(ORIGIN, "")] = record.headers.get(REASON, "")

    def has(self, topic: str, key: bytes, headers: Mapping[str, str]) -> bool:
        if HEALED in headers:
            event = _event_of(topic, key, headers)
            # Without its letter there is nothing to heal.
            return event in self.healed or event not in self.lettered
        if topic.endswith(".dlq"):
            return (topic, "", headers.get(DEAD_LETTER_ID, "")) in self.ids
        return (topic, _tenant(key), headers.get(EVENT_ID, "")) in self.ids


def _event_of(topic: str, key: bytes, headers: Mapping[str, str]) -> tuple[str, bytes, str, str]:
    return (topic, key, headers.get(CONSUMER, ""), headers.get(EVENT_ID, ""))


def _tenant(key: bytes) -> str:
    return key.partition(b"/")[0].decode(errors="replace")
