"""A power cut under transactions: one that was confirmed is there, and none is there in part."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.unit.broker.power_cut import PowerCutDisk
from tidemill.broker.embedded import EmbeddedBroker
from tidemill.broker.settings import BrokerSettings, FsyncPolicy, GroupLimits

PARTITIONS = 3
LAST = b"last"


async def transact(producer: AIOKafkaProducer, topic: str, value: bytes) -> None:
    """One record in each partition."""
    async with producer.transaction():
        for partition in range(PARTITIONS):
            await producer.send(topic, value, partition=partition)


async def transact_all(producer: AIOKafkaProducer, topic: str, confirmed: list[bytes]) -> None:
    while True:
        value = b"%d" % len(confirmed)
        await transact(producer, topic, value)
        confirmed.append(value)


async def committed(consumer: Any) -> Counter[bytes]:
    """What readers of committed records see, up to the last transaction."""
    found: Counter[bytes] = Counter()
    async with asyncio.timeout(30):
        while found[LAST] < PARTITIONS:
            found[(await consumer.getone()).value] += 1
    return found


@pytest.mark.parametrize("seed", range(12))
async def test_a_confirmed_transaction_is_whole_after_a_cut_and_any_other_whole_or_not_there(
    tmp_path: Path, clients: Any, until: Callable[..., Any], seed: int
) -> None:
    chance = random.Random(seed)
    options = BrokerSettings(
        data_dir=tmp_path / "0" / "data",
        port=0,
        fsync=FsyncPolicy.ALWAYS,
        groups=GroupLimits(initial_delay_ms=0),
    )
    disk = PowerCutDisk(tmp_path / "0")
    confirmed: list[bytes] = []
    async with clients:
        async with EmbeddedBroker(options, disk=disk) as broker:
            topic = await clients.topic(
                broker.bootstrap, partitions=PARTITIONS, internal_segment_bytes=2_000
            )
            producer = await clients.producer(broker.bootstrap, transactional_id="t")
            working = asyncio.create_task(transact_all(producer, topic, confirmed))
            await until(lambda: len(confirmed) > 5)
            await asyncio.sleep(chance.random() / 20)
            told = list(confirmed)
            disk.cut(tmp_path / "1", lambda n: chance.randint(0, n))
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await clients.__aexit__()
        async with EmbeddedBroker(replace(options, data_dir=tmp_path / "1" / "data")) as broker:
            successor = await clients.producer(broker.bootstrap, transactional_id="t")
            await transact(successor, topic, LAST)
            reader = {"isolation_level": "read_committed"}
            consumer = await clients.consumer(broker.bootstrap, topic, **reader)
            found = await committed(consumer)
            await clients.__aexit__()
    disk.close()
    assert set(told) <= set(found), "a confirmed transaction is lost"
    assert set(found.values()) == {PARTITIONS}, "a transaction is there in part"
