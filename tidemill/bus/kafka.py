"""FastStream over aiokafka with the settings that a guarantee needs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.exceptions import FastStreamException
from faststream.kafka import KafkaBroker, KafkaMessage

from tidemill.bus.consumer import Consumer
from tidemill.bus.dispatcher import Commit, OrderedDispatcher
from tidemill.bus.envelope import Record, header_text
from tidemill.bus.outbox import REFUSALS, EventRefused
from tidemill.faults import Fault, Reason
from tidemill.topics import MAX_DEAD_LETTER_BYTES, MAX_MESSAGE_BYTES

log = structlog.get_logger()

ENQUEUE_SECONDS = 30.0
REQUEST_MS = 20_000
STOP_SECONDS = 4.0
"""How long the records in hand may take once the service stops."""
SESSION_MS = 10_000
# A record ends the wait; on a silent topic every question costs both sides a millisecond or two.
FETCH_WAIT_MS = 1_500
# A delivery may be held for long while a part is down; it must not cost the partition.
MAX_POLL_MS = 30 * 60 * 1000


def kafka_broker(bootstrap: str, client_id: str) -> KafkaBroker:
    """A broker that neither drops keys nor doubles records nor creates topics by itself."""
    return KafkaBroker(
        bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        ack_policy=AckPolicy.MANUAL,
        max_request_size=MAX_DEAD_LETTER_BYTES,
        compression_type=None,
        request_timeout_ms=REQUEST_MS,
        graceful_timeout=STOP_SECONDS,
        logger=None,
    )


async def readable(raw: Any, parse: Callable[[Any], Awaitable[KafkaMessage]]) -> KafkaMessage:
    """FastStream's parser fails on headers that are not UTF-8, and what fails there is committed
    unseen; so it gets them repaired."""
    headers = [(name, value.encode()) for name, value in header_text(raw.headers).items()]
    return await parse(replace(raw, headers=headers))


async def raw_body(message: Any) -> bytes:
    """Decoding is the consumer's work: here it would fail before its dead letter."""
    return bytes(message.body or b"")


def group_of(service: str, topic: str) -> str:
    """The consumer group of a service's handler of a topic."""
    return f"tidemill.{service}.{topic}"


def subscribe(
    broker: KafkaBroker,
    consumer: Consumer[Any],
    dispatcher: OrderedDispatcher,
    session_ms: int = SESSION_MS,
) -> Any:
    """A subscriber that commits a record's offset after its outcome is in the database."""
    subscriber = broker.subscriber(
        consumer.topic.name,
        group_id=group_of(consumer.service, consumer.topic.name),
        auto_offset_reset="earliest",
        # The dispatcher commits: FastStream would commit its position, past what was set aside.
        ack_policy=AckPolicy.MANUAL,
        listener=dispatcher,
        # An aborted transaction of a producer outside the mesh is not an event.
        isolation_level="read_committed",
        max_poll_interval_ms=MAX_POLL_MS,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 4,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        parser=readable,
        decoder=raw_body,
        no_reply=True,
    )
    subscriber(delivery_function(dispatcher))
    return subscriber


def delivery_function(
    dispatcher: OrderedDispatcher,
) -> Callable[[KafkaMessage], Awaitable[None]]:
    async def deliver(message: KafkaMessage) -> None:
        client: Any = message.consumer
        first: Any = message.raw_message
        records = [record_of(first), *await arrived(client, dispatcher.batch - 1)]
        await dispatcher.put(records, commit_by(client))

    return deliver


async def arrived(client: Any, most: int) -> list[Record]:
    """Up to that many records that the client holds already; nothing is waited for."""
    if most < 1:
        return []
    try:
        found = await client.getmany(timeout_ms=0, max_records=most)
    except KafkaError as error:  # of a partition whose next fetch says it again
        log.warning("fetch_failed", reason=type(error).__name__)
        return []
    return [record_of(raw) for records in found.values() for raw in records]


def commit_by(client: Any) -> Commit:
    async def commit(offsets: Mapping[TopicPartition, int]) -> None:
        await client.commit(dict(offsets))

    return commit


def record_of(raw: Any) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key or b"",
        value=raw.value,
        headers=header_text(raw.headers),
        time=time_of(raw.timestamp),
    )


def time_of(milliseconds: int) -> datetime:
    """A producer may write any number where the topic does not stamp the time itself."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


async def enqueue(
    broker: KafkaBroker, topic: str, key: bytes, value: bytes | None, headers: dict[str, str]
) -> "asyncio.Future[Any]":
    """Hand a record to the producer; the future ends once the broker has it.

    Raises Fault(DEPENDENCY_UNAVAILABLE) when the producer cannot take it, EventRefused when it
    never will.
    """
    try:
        async with asyncio.timeout(ENQUEUE_SECONDS):
            return await broker.publish(value, topic, key=key, headers=headers, no_confirm=True)
    except REFUSALS as error:
        raise EventRefused(type(error).__name__) from error
    except (KafkaError, FastStreamException, TimeoutError, OSError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
