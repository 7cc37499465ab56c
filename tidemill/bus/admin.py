"""Creates the catalogue's topics; running it again changes nothing."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tidemill.bus.goodbye import GOODBYE_SECONDS
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, DEAD_LETTER_RETENTION_MS, MAX_DEAD_LETTER_BYTES

ADMIN_SECONDS = 30.0
TOPIC_ALREADY_EXISTS = 36
MAX_REPLICAS = 3


@dataclass(frozen=True)
class TopicStatus:
    """created: False when the topic was there already."""

    name: str
    created: bool


def wanted_topics(replicas: int) -> list[NewTopic]:
    dead = {
        "retention.ms": str(DEAD_LETTER_RETENTION_MS),
        "max.message.bytes": str(MAX_DEAD_LETTER_BYTES),
    }
    topics = []
    for topic in CATALOGUE:
        configs = topic.configs()
        topics.append(NewTopic(topic.name, topic.partitions, replicas, topic_configs=configs))
        topics.append(NewTopic(topic.dead_letter_name, 1, replicas, topic_configs=dead))
    return topics


async def create_topics(bootstrap: str) -> list[TopicStatus]:
    """Create what is missing, on up to three brokers each.

    Raises Fault: DEPENDENCY_UNAVAILABLE without a broker, FAILED_PRECONDITION when it refuses.
    """
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(ADMIN_SECONDS):
            await client.start()
            wanted = wanted_topics(await replicas_of(client))
            existing = set(await client.list_topics())
            missing = [topic for topic in wanted if topic.name not in existing]
            if missing:
                response = await client.create_topics(missing)
                check_errors(response.topic_errors)
    except (KafkaError, TimeoutError, OSError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await client.close()
    new = {topic.name for topic in missing}
    return [TopicStatus(topic.name, topic.name in new) for topic in wanted]


async def replicas_of(client: Any) -> int:
    """One on a single broker, three where there are as many."""
    cluster = await client.describe_cluster()
    return max(1, min(MAX_REPLICAS, len(cluster["brokers"])))


def check_errors(errors: Iterable[tuple[Any, ...]]) -> None:
    for name, code, *_ in errors:
        if code not in (0, TOPIC_ALREADY_EXISTS):
            raise Fault(Reason.FAILED_PRECONDITION, topic=name, kafka_error=str(code))
