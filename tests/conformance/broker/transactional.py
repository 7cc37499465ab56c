"""The two client libraries under one set of names, for tests of transactions."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ConfluentPartition

Partition = tuple[str, int]
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


class Fenced(Exception):
    """Another producer has the transactional id now."""


class Transactor(Protocol):
    """A producer with a transactional id. `send` returns when the record is in the log."""

    async def begin(self) -> None: ...
    async def send(self, topic: str, value: bytes, partition: int = 0) -> None: ...
    async def send_offsets(self, offsets: Mapping[Partition, int], group: str) -> None: ...
    async def commit(self) -> None: ...
    async def abort(self) -> None: ...


class AiokafkaTransactor:
    """aiokafka."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def begin(self) -> None:
        await self._producer.begin_transaction()

    async def send(self, topic: str, value: bytes, partition: int = 0) -> None:
        await self._fencing(self._producer.send_and_wait(topic, value, partition=partition))

    async def send_offsets(self, offsets: Mapping[Partition, int], group: str) -> None:
        rows = {TopicPartition(*key): OffsetAndMetadata(at, "") for key, at in offsets.items()}
        await self._fencing(self._producer.send_offsets_to_transaction(rows, group))

    async def commit(self) -> None:
        await self._fencing(self._producer.commit_transaction())

    async def abort(self) -> None:
        await self._fencing(self._producer.abort_transaction())

    @staticmethod
    async def _fencing(call: Any) -> None:
        try:
            async with asyncio.timeout(20):
                await call
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced from error


class LibrdkafkaTransactor:
    """confluent-kafka; its calls block, so each one gets a thread."""

    def __init__(self, bootstrap: str, transactional_id: str, timeout_ms: int) -> None:
        self._bootstrap = bootstrap
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                "message.timeout.ms": timeout_ms,
                "linger.ms": 0,
            }
        )
        self._reports: list[KafkaError | None] = []

    async def close(self) -> None:
        # A fenced producer closes with an error, and at times a wrapped one.
        with contextlib.suppress(KafkaException, SystemError):
            await asyncio.to_thread(self._producer.close)

    async def start(self) -> "LibrdkafkaTransactor":
        await self._call(self._producer.init_transactions, 20)
        return self

    async def begin(self) -> None:
        await self._call(self._producer.begin_transaction)

    async def send(self, topic: str, value: bytes, partition: int = 0) -> None:
        self._producer.produce(topic, value, partition=partition, on_delivery=self._delivered)
        async with asyncio.timeout(20):
            while not self._reports:
                # Raised when a fatal error and a delivery report come up in the same call.
                with contextlib.suppress(SystemError):
                    await self._call(self._producer.poll, 0.1)
        error = self._reports.pop()
        if error is not None:
            raise Fenced if error.code() in _FENCED else KafkaException(error)

    async def send_offsets(self, offsets: Mapping[Partition, int], group: str) -> None:
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": group})
        try:
            metadata = consumer.consumer_group_metadata()
            await self.send_offsets_of(offsets, metadata)
        finally:
            await asyncio.to_thread(consumer.close)

    async def send_offsets_of(self, offsets: Mapping[Partition, int], metadata: Any) -> None:
        rows = [ConfluentPartition(*key, at) for key, at in offsets.items()]
        await self._call(self._producer.send_offsets_to_transaction, rows, metadata, 20)

    async def commit(self) -> None:
        await self._call(self._producer.commit_transaction, 20)

    async def abort(self) -> None:
        await self._call(self._producer.abort_transaction, 20)

    def _delivered(self, error: KafkaError | None, _: Any) -> None:
        self._reports.append(error)

    @staticmethod
    async def _call(function: Any, *arguments: Any) -> None:
        try:
            await asyncio.to_thread(function, *arguments)
        except KafkaException as exception:
            if exception.args[0].code() in _FENCED:
                raise Fenced from exception
            raise


async def read_by_aiokafka(kafka: Any, topic: str, isolation: str, start: int = 0) -> list[bytes]:
    """Values from an offset to the end that this isolation level sees, all partitions."""
    consumer = await kafka.consumer(topic, isolation_level=isolation)
    partitions = sorted(consumer.assignment())
    ends = await consumer.end_offsets(partitions)
    values: list[bytes] = []
    async with asyncio.timeout(45):
        for partition in partitions:
            consumer.seek(partition, min(start, ends[partition]))
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(partition, timeout_ms=100)).values():
                    values += [record.value for record in records]
    return values


async def read_by_librdkafka(kafka: Any, topic: str, isolation: str, start: int = 0) -> list[bytes]:
    """The same by the other client; it says itself where the end is."""
    return await asyncio.to_thread(_poll_to_the_end, kafka.bootstrap, topic, isolation, start)


def _poll_to_the_end(bootstrap: str, topic: str, isolation: str, start: int) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "not-used",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
        }
    )
    indexes = consumer.list_topics(topic, 20).topics[topic].partitions
    consumer.assign([ConfluentPartition(topic, index, start) for index in indexes])
    values: list[bytes] = []
    left = set(indexes)
    try:
        while left:
            message = consumer.poll(20)
            assert message is not None, "nothing came, not even the end"
            if message.error() is None:
                values.append(message.value())
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF
                left.discard(message.partition())
    finally:
        consumer.close()
    return values
