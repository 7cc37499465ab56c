"""Dead letters as they lie in Kafka: read without a group, so that reading changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tidemill.bus.dead_letters.status import Mark, Standing, State, after, mark_of
from tidemill.bus.envelope import (
    CONSUMER,
    DEAD_LETTER_ID,
    DETAIL,
    EVENT_ID,
    ORIGIN,
    ORIGIN_TIME,
    REASON,
    REPLAY,
    TRACEPARENT,
    header_text,
    split_key,
)
from tidemill.bus.goodbye import say_goodbye
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, MAX_DEAD_LETTER_BYTES, Topic

READ_SECONDS = 120.0
POLL_MS = 1_000
MAX_SILENT_POLLS = 30
UNVERIFIED = (
    Reason.TOKEN_MISSING.value,
    Reason.TOKEN_INVALID.value,
    Reason.SCOPE_MISSING.value,
    Reason.TENANT_MISMATCH.value,
)


@dataclass(frozen=True)
class DeadLetter:
    """One event that one consumer gave up; its value stays in Kafka.

    origin: "topic/partition/offset" of the record. replay: 0 when its first delivery died, n when
    its n-th replay did.
    """

    letter_id: str
    topic: str
    consumer: str
    reason: str
    detail: str
    origin: str
    origin_time: str
    parked_at: datetime
    event_id: str
    trace_id: str
    size_bytes: int
    replay: int
    partition: int
    offset: int
    key: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    standing: Standing = field(default_factory=Standing)

    @property
    def dead_letter_topic(self) -> str:
        return f"{self.topic}.dlq"

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def replays(self) -> int:
        """How often this letter was sent again."""
        return self.standing.replays

    @property
    def event(self) -> tuple[str, bytes, str, bool]:
        """Whose death it is. An unverified record may carry another event's id, so it never
        stands for that event."""
        return (self.consumer, self.key, self.event_id, is_replayable(self))


def topic_of(letter: DeadLetter) -> Topic[Any] | None:
    """None for a topic of another release."""
    return next((topic for topic in CATALOGUE if topic.name == letter.topic), None)


def is_ingress(letter: DeadLetter) -> bool:
    """True of a topic that producers outside the mesh write to."""
    topic = topic_of(letter)
    return topic is not None and topic.write_scope is not None


def is_replayable(letter: DeadLetter) -> bool:
    """False when the sender of an outsiders' event was never verified: an operator's wish to try
    again does not vouch for anybody."""
    if not is_ingress(letter):
        return True
    try:
        split_key(letter.key)
    except Fault:
        return False
    return letter.reason not in UNVERIFIED


async def read_letters(bootstrap: str, names: list[str]) -> list[DeadLetter]:
    """Every letter of those dead-letter topics, by the time it was parked."""
    shelf = Shelf()
    async with reading(bootstrap, names) as consumer:
        async for raw in all_records(consumer):
            shelf.put(raw)
    return sorted(shelf.letters.values(), key=lambda letter: letter.parked_at)


class Shelf:
    """Letters by their id, each with where it stands after the marks that followed it."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}
        self._last: dict[tuple[str, bytes, str, bool], str] = {}

    def put(self, raw: Any) -> None:
        """Take the next record of a dead-letter topic."""
        headers = header_text(raw.headers)
        mark = mark_of(raw.key or b"", headers, time_of(raw))
        if mark is not None:
            self._mark(mark)
        elif DEAD_LETTER_ID in headers:
            self._add(letter_of(raw, headers))

    def _add(self, letter: DeadLetter) -> None:
        # A relay that was killed before it could note its work publishes a letter twice.
        if letter.letter_id in self.letters:
            return
        earlier = self._last.get(letter.event)
        if earlier is not None:
            old = self.letters[earlier]
            standing = replace(old.standing, state=State.SUPERSEDED)
            self.letters[earlier] = replace(old, standing=standing)
        self.letters[letter.letter_id] = letter
        self._last[letter.event] = letter.letter_id

    def _mark(self, mark: Mark) -> None:
        named = mark.letter_id
        if mark.kind is State.HEALED:
            named = self._last.get((mark.consumer, *mark.event, True), "")
        letter = self.letters.get(named)
        if letter is not None:
            standing = after(letter.standing, mark)
            self.letters[named] = replace(letter, standing=standing)


def time_of(raw: Any) -> datetime:
    return datetime.fromtimestamp(raw.timestamp / 1000, UTC)


def letter_of(raw: Any, headers: Mapping[str, str]) -> DeadLetter:
    replay = headers.get(REPLAY, "0")
    return DeadLetter(
        letter_id=headers[DEAD_LETTER_ID],
        topic=raw.topic.removesuffix(".dlq"),
        consumer=headers.get(CONSUMER, ""),
        reason=headers.get(REASON, ""),
        detail=headers.get(DETAIL, ""),
        origin=headers.get(ORIGIN, ""),
        origin_time=headers.get(ORIGIN_TIME, ""),
        parked_at=time_of(raw),
        event_id=headers.get(EVENT_ID, ""),
        trace_id=headers.get(TRACEPARENT, "")[3:35],
        size_bytes=len(raw.value or b""),
        replay=int(replay) if replay.isdecimal() else 0,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key or b"",
        headers=headers,
    )


async def value_of(consumer: Any, letter: DeadLetter) -> bytes | None:
    """The event's value; Fault(NOT_FOUND) when the topic has dropped it meanwhile."""
    place = TopicPartition(letter.dead_letter_topic, letter.partition)
    consumer.seek(place, letter.offset)
    async with broker_faults():
        raw = await consumer.getone(place)
    if raw.offset != letter.offset:
        raise Fault(Reason.NOT_FOUND, dead_letter=letter.letter_id)
    value: bytes | None = raw.value
    return value


async def all_records(consumer: Any) -> AsyncIterator[Any]:
    """What the consumer's topics hold now, partition after partition."""
    partitions = sorted(consumer.assignment())
    async with broker_faults():
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    for partition in partitions:
        silent, end = 0, ends[partition]
        consumer.seek(partition, starts[partition])
        while True:
            async with broker_faults():
                if await consumer.position(partition) >= end:
                    break
                batch = await consumer.getmany(partition, timeout_ms=POLL_MS)
            silent = 0 if batch else silent + 1
            if silent > MAX_SILENT_POLLS:
                raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker")
            for raw in batch.get(partition, []):
                yield raw


@asynccontextmanager
async def reading(bootstrap: str, names: list[str]) -> AsyncIterator[Any]:
    """A consumer without a group, assigned to all partitions of the topics."""
    consumer = AIOKafkaConsumer(
        *names,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        # Other requests wait behind a fetch that waits for records.
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=MAX_DEAD_LETTER_BYTES,
    )
    try:
        async with broker_faults():
            await consumer.start()
        yield consumer
    finally:
        await say_goodbye(consumer)


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_DEAD_LETTER_BYTES,
    )
    try:
        async with broker_faults():
            await producer.start()
        yield producer
    finally:
        await say_goodbye(producer)


@asynccontextmanager
async def broker_faults() -> AsyncIterator[None]:
    """One step against the broker: bounded in time, and a fault when it fails."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            yield
    except (KafkaError, TimeoutError, OSError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
