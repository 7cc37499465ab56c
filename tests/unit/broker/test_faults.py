"""The fault hooks that other tests rely on: error, delay and cut, per API."""

import asyncio
import time
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from kio.schema.errors import ErrorCode

from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.faults import Drop, Fault
from tidemill.broker.settings import BrokerSettings
from tidemill.broker.wire.versions import Api


async def test_an_error_is_answered_as_often_as_asked_and_retried_by_the_client(
    settings: BrokerSettings, clients: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap)
        error = ErrorCode.not_leader_or_follower
        fault = broker.faults.add(Fault(api=Api.PRODUCE, error=error, times=2))
        assert (await producer.send_and_wait(topic, b"value")).offset == 0
        assert fault.hits == 2


async def test_an_error_that_is_not_retriable_reaches_the_caller(
    settings: BrokerSettings, clients: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap)
        broker.faults.add(Fault(api=Api.PRODUCE, error=ErrorCode.topic_authorization_failed))
        with pytest.raises(KafkaError):
            await producer.send_and_wait(topic, b"value")
        assert (await producer.send_and_wait(topic, b"value")).offset == 0


@pytest.mark.parametrize("drop", list(Drop))
async def test_a_cut_connection_doubles_nothing_for_an_idempotent_producer(
    settings: BrokerSettings, clients: Any, drop: Drop
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap, enable_idempotence=True)
        broker.faults.add(Fault(api=Api.PRODUCE, drop=drop, times=2))
        await producer.send_and_wait(topic, b"one")
        await producer.send_and_wait(topic, b"two")
        assert await clients.read_all(broker.bootstrap, topic) == [b"one", b"two"]


async def test_a_delay_holds_up_its_own_connection_only(
    settings: BrokerSettings, clients: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        slow, fast = [await clients.topic(broker.bootstrap, name) for name in ("slow", "fast")]
        producers = [await clients.producer(broker.bootstrap) for _ in range(2)]
        fault = Fault(
            api=Api.PRODUCE,
            delay_seconds=0.5,
            matches=lambda request: request.body.topic_data[0].name == slow,
        )
        broker.faults.add(fault)
        begun = time.monotonic()
        waiting = asyncio.create_task(producers[0].send_and_wait(slow, b"value"))
        await producers[1].send_and_wait(fast, b"value")
        assert not waiting.done()
        await waiting
        assert time.monotonic() - begun >= 0.5


async def test_a_fault_can_be_taken_back(settings: BrokerSettings, clients: Any) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap)
        fault = broker.faults.add(
            Fault(api=Api.PRODUCE, error=ErrorCode.not_leader_or_follower, times=None)
        )
        waiting = asyncio.create_task(producer.send_and_wait(topic, b"value"))
        async with asyncio.timeout(10):
            while fault.hits < 3:  # noqa: ASYNC110  the fault has no event to wait for
                await asyncio.sleep(0.01)
        broker.faults.remove(fault)
        assert (await waiting).offset == 0


async def test_a_request_that_was_done_can_be_answered_with_an_error(
    settings: BrokerSettings, clients: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        error = ErrorCode.not_enough_replicas_after_append
        for idempotent, expected in ((True, [b"one"]), (False, [b"one", b"two", b"two"])):
            producer = await clients.producer(broker.bootstrap, enable_idempotence=idempotent)
            broker.faults.add(Fault(api=Api.PRODUCE, error=error, is_applied=True))
            await producer.send_and_wait(topic, b"one" if idempotent else b"two")
            assert await clients.read_all(broker.bootstrap, topic) == expected


async def test_a_request_that_was_done_can_be_answered_late(
    settings: BrokerSettings, clients: Any, until: Any
) -> None:
    async with EmbeddedBroker(settings) as broker, clients:
        topic = await clients.topic(broker.bootstrap)
        producer = await clients.producer(broker.bootstrap)
        broker.faults.add(Fault(api=Api.PRODUCE, delay_seconds=1, is_applied=True))
        answer = await producer.send(topic, b"one")

        async def is_there() -> bool:
            return bool(await clients.read_all(broker.bootstrap, topic))

        await until(is_there, seconds=10)
        assert not answer.done()
        assert (await answer).offset == 0
