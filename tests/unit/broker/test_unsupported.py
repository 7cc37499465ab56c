"""What this broker cannot do it says, instead of doing it by half."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidConfigurationError, UnsupportedVersionError
from confluent_kafka import KafkaError, KafkaException, Producer

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings


async def test_a_transactional_producer_is_refused_at_its_start(settings: BrokerSettings) -> None:
    async with EmbeddedBroker(settings) as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="t")
        with pytest.raises(UnsupportedVersionError):
            await producer.start()
        await producer.stop()
        other = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "t"})
        with pytest.raises(KafkaException) as refused:
            await asyncio.to_thread(other.init_transactions, 2)
        assert refused.value.args[0].code() == KafkaError.UNSUPPORTED_VERSION


async def test_a_compacted_topic_is_refused(settings: BrokerSettings, clients: Any) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        with pytest.raises(InvalidConfigurationError):
            await clients.topic(broker.bootstrap, cleanup_policy="compact")


async def test_an_idempotent_producer_is_served(settings: BrokerSettings, clients: Any) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, enable_idempotence=True)
        assert (await producer.send_and_wait(topic, b"value")).offset == 0
