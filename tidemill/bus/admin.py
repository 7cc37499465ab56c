"""Creates the catalogue's topics; running it again changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from tidemill.bus.goodbye import GOODBYE_SECONDS
from tidemill.faults import Fault, Reason
from tidemill.topics import CATALOGUE, dead_letter_configs

ADMIN_SECONDS = 30.0
TOPIC_ALREADY_EXISTS = 36
MAX_REPLICAS = 3
RETENTION = "retention.ms"
SET_ON_TOPIC = 1
"""Source of a setting in DescribeConfigs."""
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


async def align_retention(bootstrap: str) -> list[str]:
    """Give topics that are there the catalogue's retention; names of those that had another one.

    What else was set on them stays. Raises Fault as create_topics does.
    """
    async with administering(bootstrap) as client:
        existing = set(await client.list_topics())
        wanted = {t.name: t.configs()[RETENTION] for t in CATALOGUE if t.name in existing}
        found = await settings_of(client, list(wanted))
        other = {n: s for n, s in found.items() if s.get(RETENTION) != wanted[n]}
        changes = [
            ConfigResource(ConfigResourceType.TOPIC, n, s | {RETENTION: wanted[n]})
            for n, s in other.items()
        ]
        for response in await client.alter_configs(changes) if changes else ():
            check_errors((name, code) for code, _, _, name in response.resources)
    return sorted(other)


async def settings_of(client: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What was set on each topic itself, not on the broker."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    return {
        name: {key: value for key, value, _, source, *_ in entries if source == SET_ON_TOPIC}
        for response in (await client.describe_configs(asked) if asked else ())
        for _, _, _, name, entries in response.resources
    }


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
