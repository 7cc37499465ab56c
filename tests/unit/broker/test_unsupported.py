"""What this broker cannot do it says, instead of doing it by half."""

from typing import Any

import pytest
from aiokafka.errors import InvalidConfigurationError

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings


@pytest.mark.parametrize(
    "configs",
    [
        {"cleanup_policy": "compact,shred"},
        {"remote_storage_enable": "true"},
    ],
)
async def test_a_setting_it_does_not_honour_is_refused(
    settings: BrokerSettings, clients: Any, configs: dict[str, str]
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        with pytest.raises(InvalidConfigurationError):
            await clients.topic(broker.bootstrap, **configs)


async def test_an_idempotent_producer_is_served(settings: BrokerSettings, clients: Any) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, enable_idempotence=True)
        assert (await producer.send_and_wait(topic, b"value")).offset == 0
