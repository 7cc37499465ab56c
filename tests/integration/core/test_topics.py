"""The topics as they are made on a broker."""

from collections.abc import Callable

from tests.conftest import BrokerProcess
from tidemill.bus.admin import administering, create_topics
from tidemill.topics import CATALOGUE


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
