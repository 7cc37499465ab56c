"""The topics as they are made on a broker."""

from collections.abc import Callable

from aiokafka.admin import NewTopic

from tests.conftest import BrokerProcess
from tidemill.bus.admin import administering, align_retention, create_topics, settings_of
from tidemill.topics import CATALOGUE, DOCUMENTS_SUBMITTED


async def partitions_of(bootstrap: str) -> set[int]:
    names = [topic.name for topic in CATALOGUE]
    async with administering(bootstrap) as client:
        return {len(topic["partitions"]) for topic in await client.describe_topics(names)}


async def test_they_get_as_many_partitions_as_are_asked_for_and_keep_them(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker()
    assert all(topic.created for topic in await create_topics(broker.bootstrap, 7))
    assert not any(topic.created for topic in await create_topics(broker.bootstrap, 9))
    assert await partitions_of(broker.bootstrap) == {7}


async def test_topics_that_were_kept_otherwise_are_kept_as_the_catalogue_says(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker, name = start_broker(), DOCUMENTS_SUBMITTED.name
    own = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "segment.ms": "600000"}
    async with administering(broker.bootstrap) as client:
        await client.create_topics([NewTopic(name, 3, 1, topic_configs=own)])
    await create_topics(broker.bootstrap)
    assert await align_retention(broker.bootstrap) == [name]
    assert await align_retention(broker.bootstrap) == []
    async with administering(broker.bootstrap) as client:
        found = await settings_of(client, [name])
    assert found == {name: own | {"retention.ms": str(7 * 86_400_000)}}
