"""Requests of transactions as no well-behaved client would send them, and their error codes."""

import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from crc32c import crc32c

OK, UNKNOWN_TOPIC, NOT_LEADER, OLD_EPOCH, INVALID_STATE, UNKNOWN_ID = 0, 3, 6, 47, 48, 49
INVALID_TIMEOUT, CONCURRENT, NOT_AUTHORIZED, NOT_ATTEMPTED, INVALID_RECORD = 50, 51, 53, 55, 87
COMMIT, ABORT = True, False


class Wire:
    """One transactional id, spoken for by hand; answers are error codes."""

    def __init__(self, kafka: Any, connection: Any) -> None:
        self.id = kafka.name("id")
        self.producer_id = self.epoch = -1
        self._until = kafka.until
        self._connection = connection

    async def _settled(self, ask: Callable[[], Awaitable[int]]) -> int:
        """The code once the cluster is done with what went before."""
        code = CONCURRENT

        async def is_settled() -> bool:
            nonlocal code
            code = await ask()
            return code != CONCURRENT

        await self._until(is_settled)
        return code

    async def init(self, timeout_ms: int = 30_000, transactional_id: str | None = None) -> int:
        async def ask() -> int:
            name = self.id if transactional_id is None else transactional_id
            answer = await self._connection.send(InitProducerIdRequest(name, timeout_ms))
            if answer.error_code == OK:
                self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
            return int(answer.error_code)

        return await self._settled(ask)

    async def add(self, topic: str, indexes: tuple[int, ...] = (0,), **key: int) -> list[int]:
        codes: list[int] = []

        async def ask() -> int:
            request = AddPartitionsToTxnRequest(*self._key(**key), [(topic, list(indexes))])
            answer = await self._connection.send(request)
            # Apache Kafka answers them in an order of its own.
            codes[:] = [row[1] for row in sorted(answer.errors[0][1])]
            return codes[0]

        await self._settled(ask)
        return codes

    async def add_group(self, group: str, **key: int) -> int:
        async def ask() -> int:
            request = AddOffsetsToTxnRequest(*self._key(**key), group)
            return int((await self._connection.send(request)).error_code)

        return await self._settled(ask)

    async def commit_offset(self, group: str, topic: str, offset: int, **key: int) -> int:
        name, producer_id, epoch = self._key(**key)
        request = TxnOffsetCommitRequest(
            name, group, producer_id, epoch, [(topic, [(0, offset, "")])]
        )
        return int((await self._connection.send(request)).errors[0][1][0][1])

    async def end(self, outcome: bool, **key: int) -> int:
        async def ask() -> int:
            answer = await self._connection.send(EndTxnRequest(*self._key(**key), outcome))
            return int(answer.error_code)

        return await self._settled(ask)

    async def send(self, topic: str, batch: bytes, *, index: int = 0, name: Any = ...) -> int:
        transactional_id = self.id if name is ... else name
        request = ProduceRequest(transactional_id, -1, 5_000, [(topic, [(index, batch)])])
        code = NOT_LEADER

        async def has_leader() -> bool:
            nonlocal code
            code = int((await self._connection.send(request)).topics[0][1][0][1])
            return code not in (NOT_LEADER, UNKNOWN_TOPIC)

        await self._until(has_leader)
        return code

    def batch(
        self, sequence: int, *, transactional: bool = True, epoch: int | None = None
    ) -> bytes:
        at = self.epoch if epoch is None else epoch
        builder = DefaultRecordBatchBuilder(
            2, 0, int(transactional), self.producer_id, at, sequence, 10_000
        )
        builder.append(0, int(time.time() * 1000), None, b"value", [])
        return bytes(builder.build())

    def _key(self, *, producer_id: int | None = None, epoch: int | None = None) -> Any:
        return (
            self.id,
            self.producer_id if producer_id is None else producer_id,
            self.epoch if epoch is None else epoch,
        )


@pytest.fixture
async def wire(kafka: Any) -> Wire:
    wire = Wire(kafka, await kafka.connection())
    assert await wire.init() == OK
    return wire


@pytest.fixture
async def topic(kafka: Any) -> str:
    return str(await kafka.topic(partitions=2))


async def test_each_start_keeps_the_id_and_raises_the_epoch(wire: Wire, topic: str) -> None:
    producer_id, epoch = wire.producer_id, wire.epoch
    assert await wire.init() == OK
    assert wire.producer_id == producer_id
    assert wire.epoch == epoch + 1
    assert await wire.add(topic) == [OK]
    assert await wire.init() == OK, "with a transaction open, which is aborted"
    assert wire.epoch > epoch + 1


@pytest.mark.parametrize("timeout_ms", [0, -1, 2_000_000_000])
async def test_a_timeout_out_of_bounds_is_refused(wire: Wire, timeout_ms: int) -> None:
    assert await wire.init(timeout_ms) == INVALID_TIMEOUT


async def test_records_are_taken_only_for_partitions_of_the_transaction(
    wire: Wire, topic: str
) -> None:
    assert await wire.send(topic, wire.batch(0)) == INVALID_STATE
    assert await wire.add(topic) == [OK]
    assert await wire.send(topic, wire.batch(0)) == OK
    assert await wire.send(topic, wire.batch(0), index=1) == INVALID_STATE
    assert await wire.end(COMMIT) == OK
    assert await wire.add(topic, (1,)) == [OK]
    assert await wire.send(topic, wire.batch(1)) == INVALID_STATE, "not of this transaction"


async def test_records_of_a_transaction_need_its_id(wire: Wire, topic: str) -> None:
    assert await wire.add(topic) == [OK]
    assert await wire.send(topic, wire.batch(0), name=None) == NOT_AUTHORIZED


async def test_plain_records_amid_a_transaction_are_refused(wire: Wire, topic: str) -> None:
    assert await wire.add(topic) == [OK]
    assert await wire.send(topic, wire.batch(0)) == OK
    assert await wire.send(topic, wire.batch(1, transactional=False)) == INVALID_STATE
    assert await wire.send(topic, wire.batch(1)) == OK


async def test_sequences_go_on_from_one_transaction_to_the_next(wire: Wire, topic: str) -> None:
    for sequence in range(3):
        assert await wire.add(topic) == [OK]
        assert await wire.send(topic, wire.batch(sequence)) == OK
        assert await wire.send(topic, wire.batch(sequence)) == OK, "a repeated one"
        assert await wire.end(sequence != 1) == OK


async def test_markers_come_from_the_broker_alone(wire: Wire, topic: str) -> None:
    assert await wire.add(topic) == [OK]
    batch = bytearray(wire.batch(0))
    (attributes,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, attributes | 0x20)
    struct.pack_into(">I", batch, 17, crc32c(bytes(batch[21:])))
    assert await wire.send(topic, bytes(batch)) == INVALID_RECORD


async def test_an_older_epoch_is_fenced_everywhere(wire: Wire, topic: str) -> None:
    old = wire.epoch
    assert await wire.init() == OK
    assert await wire.add(topic, epoch=old) == [OLD_EPOCH]
    assert await wire.add_group("group", epoch=old) == OLD_EPOCH
    assert await wire.end(COMMIT, epoch=old) == OLD_EPOCH
    assert await wire.add(topic) == [OK]
    assert await wire.send(topic, wire.batch(0, epoch=old)) == OLD_EPOCH


async def test_a_foreign_producer_id_is_refused(wire: Wire, topic: str) -> None:
    stranger = wire.producer_id + 1_000_000
    assert await wire.add(topic, producer_id=stranger) == [UNKNOWN_ID]
    assert await wire.add_group("group", producer_id=stranger) == UNKNOWN_ID
    assert await wire.end(COMMIT, producer_id=stranger) == UNKNOWN_ID


async def test_a_partition_that_does_not_exist_keeps_the_others_out(wire: Wire, topic: str) -> None:
    assert await wire.add(topic, (0, 7)) == [NOT_ATTEMPTED, UNKNOWN_TOPIC]
    assert await wire.end(COMMIT) == INVALID_STATE, "nothing has begun"


@pytest.mark.parametrize("outcome", [COMMIT, ABORT])
async def test_an_end_may_be_repeated_but_not_changed(
    wire: Wire, topic: str, outcome: bool
) -> None:
    assert await wire.end(outcome) == INVALID_STATE, "nothing has begun"
    assert await wire.add(topic) == [OK]
    assert await wire.send(topic, wire.batch(0)) == OK
    assert await wire.end(outcome) == OK
    assert await wire.end(outcome) == OK
    assert await wire.end(not outcome) == INVALID_STATE


async def test_offsets_need_their_group_in_the_transaction(
    kafka: Any, wire: Wire, topic: str
) -> None:
    group = kafka.name("group")
    assert await wire.add(topic) == [OK]
    assert await wire.commit_offset(group, topic, 1) == INVALID_STATE
    assert await wire.add_group(group) == OK
    assert await wire.commit_offset(group, topic, 1) == OK
    assert await wire.end(COMMIT) == OK
