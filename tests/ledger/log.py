"""The log as any Kafka client sees it: every record from offset 0, and what groups committed."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.ledger.subscriptions import consumers, group_id
from tidemill.bus.envelope import CONSUMER, EVENT_ID, header_text
from tidemill.topics import CATALOGUE, MAX_DEAD_LETTER_BYTES

READ_SECONDS = 60.0
SILENT_POLLS = 100

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True)
class Entry:
    """A record of the log."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, str]

    @property
    def origin(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def event_id(self) -> str:
        return self.headers.get(EVENT_ID) or self.origin

    @property
    def tenant_id(self) -> str:
        return self.key.decode(errors="replace").partition("/")[0]

    @property
    def only_for(self) -> str:
        """The consumer that a replayed dead letter is for; empty for everyone."""
        return self.headers.get(CONSUMER, "")


@dataclass
class Log:
    """Reads on from where it stopped; what was read stays. went_back: partitions that lost their
    end, which no log may."""

    bootstrap: str
    records: dict[Place, list[Entry]] = field(default_factory=dict)
    went_back: list[str] = field(default_factory=list)

    async def read(self) -> None:
        """All new records of all topics of the catalogue and their dead letters."""
        async with asyncio.timeout(READ_SECONDS):
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=20,
                max_partition_fetch_bytes=MAX_DEAD_LETTER_BYTES,
            )
            try:
                await consumer.start()
                await self._read_all(consumer)
            finally:
                await consumer.stop()

    async def _read_all(self, consumer: Any) -> None:
        places = await existing_partitions(consumer)
        # The client asks for the leaders of what it is assigned in one go, else one by one.
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        unread = [place for place in places if self._next(place) < ends[place]]
        for place in places:
            if self._next(place) > ends[place]:
                self.went_back.append(f"{place.topic}/{place.partition} at {ends[place]}")
        consumer.assign(unread)
        for place in unread:
            consumer.seek(place, self._next(place))
        silent = 0
        while unread and silent < SILENT_POLLS:
            batches = await consumer.getmany(timeout_ms=200)
            silent = 0 if batches else silent + 1
            for place, batch in batches.items():
                self._keep(place, batch)
            unread = [p for p in unread if await consumer.position(p) < ends[p]]
        if unread:
            raise TimeoutError(f"unreadable: {[(p.topic, p.partition) for p in unread]}")

    def _next(self, place: TopicPartition) -> int:
        known = self.records.get((place.topic, place.partition))
        return known[-1].offset + 1 if known else 0

    def _keep(self, place: TopicPartition, batch: list[Any]) -> None:
        known = self.records.setdefault((place.topic, place.partition), [])
        for raw in batch:
            known.append(
                Entry(
                    topic=raw.topic,
                    partition=raw.partition,
                    offset=raw.offset,
                    key=raw.key or b"",
                    value=raw.value,
                    headers=header_text(raw.headers),
                )
            )

    def of(self, topic: str) -> list[Entry]:
        """A topic's records, partition after partition."""
        places = sorted(place for place in self.records if place[0] == topic)
        return [entry for place in places for entry in self.records[place]]


async def existing_partitions(consumer: Any) -> list[TopicPartition]:
    """As the catalogue counts them, of the topics that were made."""
    there = await consumer.topics()
    counted = [(topic.name, topic.partitions) for topic in CATALOGUE]
    counted += [(topic.dead_letter_name, 1) for topic in CATALOGUE]
    return [
        TopicPartition(name, partition)
        for name, partitions in counted
        if name in there
        for partition in range(partitions)
    ]


async def committed(bootstrap: str, services: tuple[str, ...]) -> dict[str, dict[int, int]]:
    """Group id to partition to the offset that it committed; a partition without one is absent."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    async with asyncio.timeout(READ_SECONDS):
        try:
            await client.start()
            found: dict[str, dict[int, int]] = {}
            for service, topic in consumers(services):
                group = group_id(service, topic)
                offsets = await client.list_consumer_group_offsets(group)
                found[group] = {
                    place.partition: taken.offset
                    for place, taken in offsets.items()
                    if place.topic == topic.name and taken.offset >= 0
                }
            return found
        finally:
            await client.close()
