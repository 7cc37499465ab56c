"""Creates the catalogue's topics; running it again changes nothing."""

import asyncio
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, DEAD_LETTER_RETENTION_MS, MAX_MESSAGE_BYTES

ADMIN_SECONDS = 30.0
TOPIC_ALREADY_EXISTS = 36


@dataclass(frozen=True)
class TopicStatus:
    """created: False when the topic was there already."""

    name: str
    created: bool


def wanted_topics() -> list[NewTopic]:
    topics = []
    for topic in CATALOGUE:
        topics.append(NewTopic(topic.name, topic.partitions, 1, topic_configs=topic.configs()))
        dead = {
            "retention.ms": str(DEAD_LETTER_RETENTION_MS),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        topics.append(NewTopic(topic.dead_letter_name, 1, 1, topic_configs=dead))
    return topics


async def create_topics(bootstrap: str) -> list[TopicStatus]:
    """Create what is missing. Replication is the cluster's default on anything but one node."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(ADMIN_SECONDS):
            await client.start()
            existing = set(await client.list_topics())
            missing = [topic for topic in wanted_topics() if topic.name not in existing]
            if missing:
                response = await client.create_topics(missing)
                check_errors(response.topic_errors)
    except (KafkaError, TimeoutError, OSError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
    finally:
        await client.close()
    new = {topic.name for topic in missing}
    return [TopicStatus(topic.name, topic.name in new) for topic in wanted_topics()]


def check_errors(errors: list[tuple[str, int, str | None]]) -> None:
    for name, code, *_ in errors:
        if code not in (0, TOPIC_ALREADY_EXISTS):
            raise Fault(Reason.FAILED_PRECONDITION, topic=name, kafka_error=str(code))
