"""FastStream over aiokafka with the settings that a guarantee needs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.exceptions import NackMessage
from faststream.kafka import KafkaBroker, KafkaMessage

from tidemill.bus.consumer import Consumer, Held
from tidemill.bus.envelope import Record, header_text
from tidemill.faults import Fault, Reason
from tidemill.topics import MAX_MESSAGE_BYTES

log = structlog.get_logger()

PUBLISH_SECONDS = 30.0
HELD_SECONDS = 1.0
SESSION_MS = 10_000
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
        ack_policy=AckPolicy.ACK,
        max_request_size=MAX_MESSAGE_BYTES,
        compression_type=None,
        request_timeout_ms=20_000,
        graceful_timeout=10.0,
        logger=None,
    )


async def raw_body(message: Any) -> bytes:
    """Decoding is the consumer's work: here it would fail before its dead letter."""
    return bytes(message.body or b"")


def subscribe(broker: KafkaBroker, consumer: Consumer[Any], on_flood: Callable[[], None]) -> Any:
    """Register the consumer with FastStream; offsets are committed after each finished record."""
    subscriber = broker.subscriber(
        consumer.topic.name,
        group_id=f"tidemill.{consumer.service}.{consumer.topic.name}",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        max_poll_interval_ms=MAX_POLL_MS,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=SESSION_MS // 4,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        decoder=raw_body,
        no_reply=True,
    )
    subscriber(delivery_function(consumer, on_flood))
    return subscriber


def delivery_function(
    consumer: Consumer[Any], on_flood: Callable[[], None]
) -> Callable[[KafkaMessage], Awaitable[None]]:
    async def deliver(message: KafkaMessage) -> None:
        try:
            await consumer.take(record_of(message.raw_message))
        except Held:
            # Back to the same offset; the pause keeps a full disk from spinning.
            await asyncio.sleep(HELD_SECONDS)
            raise NackMessage from None
        if consumer.brake.tripped:
            on_flood()

    return deliver


def record_of(raw: Any) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key or b"",
        value=raw.value or b"",
        headers=header_text(list(raw.headers)),
        time=datetime.fromtimestamp(raw.timestamp / 1000, UTC),
    )


async def publish(
    broker: KafkaBroker, topic: str, key: bytes, value: bytes, headers: dict[str, str]
) -> None:
    """Returns once the broker has the record; Fault(DEPENDENCY_UNAVAILABLE) otherwise."""
    try:
        async with asyncio.timeout(PUBLISH_SECONDS):
            await broker.publish(value, topic, key=key, headers=headers)
    except (KafkaError, TimeoutError, ConnectionError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
