"""Creates the catalogue's topics; running it again changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tidemill.bus.goodbye import GOODBYE_SECONDS
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, dead_letter_configs

ADMIN_SECONDS = 30.0
TOPIC_ALREADY_EXISTS = 36
MAX_REPLICAS = 3
MEMBERS = 5
"""Place of the members among the fields of a described group."""


@dataclass(frozen=True)
class TopicStatus:
    """created: False when the topic was there already."""

    name: str
    created: bool


def wanted_topics(replicas: int, partitions: int) -> list[NewTopic]:
    dead = dead_letter_configs()
    topics = []
    for topic in CATALOGUE:
        configs = topic.configs()
        count = partitions or topic.partitions
        topics.append(NewTopic(topic.name, count, replicas, topic_configs=configs))
        topics.append(NewTopic(topic.dead_letter_name, 1, replicas, topic_configs=dead))
    return topics


async def create_topics(bootstrap: str, partitions: int = 0) -> list[TopicStatus]:
    """Create what is missing, on up to three brokers each.

    partitions: of each new topic; 0 for as many as the catalogue says. What is there keeps its own:
    more of them would put the events of a key out of order.

    Raises Fault: DEPENDENCY_UNAVAILABLE without a broker, FAILED_PRECONDITION when it refuses.
    """
    async with administering(bootstrap) as client:
        wanted = wanted_topics(await replicas_of(client), partitions)
        existing = set(await client.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        if missing:
            response = await client.create_topics(missing)
            check_errors(response.topic_errors)
    new = {topic.name for topic in missing}
    return [TopicStatus(topic.name, topic.name in new) for topic in wanted]


@asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected client, for at most ADMIN_SECONDS. Raises Fault(DEPENDENCY_UNAVAILABLE)."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(ADMIN_SECONDS):
            await client.start()
            yield client
    except (KafkaError, TimeoutError, OSError) as error:
        raise Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="broker") from error
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await client.close()


async def members_of(bootstrap: str, groups: Sequence[str]) -> int:
    """How many consumers are in these groups. Raises Fault(DEPENDENCY_UNAVAILABLE)."""
    async with administering(bootstrap) as client:
        # One at a time: aiokafka 0.14 reads the answer of version 3 as that of version 2, whose
        # groups are four bytes shorter.
        found = [await client.describe_consumer_groups([group]) for group in groups]
    described = [group for answers in found for answer in answers for group in answer.groups]
    return sum(len(group[MEMBERS]) for group in described)


async def replicas_of(client: Any) -> int:
    """One on a single broker, three where there are as many."""
    cluster = await client.describe_cluster()
    return max(1, min(MAX_REPLICAS, len(cluster["brokers"])))


def check_errors(errors: Iterable[tuple[Any, ...]]) -> None:
    for name, code, *_ in errors:
        if code not in (0, TOPIC_ALREADY_EXISTS):
            raise Fault(Reason.FAILED_PRECONDITION, topic=name, kafka_error=str(code))
