"""Fetch: record batches from an offset on, waiting a while if there are none yet."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kio.schema.errors import ErrorCode

from tidemill.broker.errors import RequestRefused
from tidemill.broker.handlers.offsets_in_log import READ_COMMITTED
from tidemill.broker.node import Node
from tidemill.broker.storage.partition import Partition
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request, milliseconds

_NO_SESSION = -1
_FIRST_OF_SESSION = 0
_NO_RECORDS = b""


@dataclass(slots=True)
class _Collected:
    responses: list[Fields] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    size: int = 0
    has_error: bool = False
    is_committed: bool = False


async def fetch(node: Node, request: Request) -> Fields:
    """Returns as soon as `min_bytes` are there, an error is to be told, or time is up."""
    body = request.body
    # No sessions are kept: clients that are told session 0 name all partitions each time. Whatever
    # id one comes with, these two epochs ask for everything and the others go on from a session.
    if getattr(body, "session_epoch", _NO_SESSION) not in (_NO_SESSION, _FIRST_OF_SESSION):
        return {"error_code": ErrorCode.fetch_session_id_not_found}
    limits = node.settings.connections
    loop = asyncio.get_running_loop()
    wait_ms = min(milliseconds(body.max_wait), limits.max_fetch_wait_ms)
    deadline = loop.time() + wait_ms / 1000
    while True:
        collected = _collect(node, body, min(body.max_bytes, limits.max_fetch_bytes))
        left = deadline - loop.time()
        enough = collected.size >= body.min_bytes or collected.has_error
        if enough or left <= 0 or not collected.partitions:
            return {"responses": collected.responses}
        await _wait_for_append(collected.partitions, left)


def refuse_fetch(request: Request, code: ErrorCode) -> Fields:
    """The same error for every partition."""
    return {
        "responses": [
            {
                "topic": topic.topic,
                "partitions": [_failed(row.partition, code) for row in topic.partitions],
            }
            for topic in request.body.topics
        ]
    }


def _collect(node: Node, body: Any, max_bytes: int) -> _Collected:
    collected = _Collected(is_committed=body.isolation_level == READ_COMMITTED)
    for topic in body.topics:
        rows = [_read(node, topic.topic, row, max_bytes, collected) for row in topic.partitions]
        collected.responses.append({"topic": topic.topic, "partitions": rows})
    return collected


def _read(node: Node, topic: str, row: Any, max_bytes: int, collected: _Collected) -> Fields:
    try:
        partition = node.topics.partition(topic, row.partition)
        allowed = min(row.partition_max_bytes, max_bytes - collected.size)
        # Only the first batch of an answer may exceed what the client asked for.
        is_first = not collected.size
        if collected.is_committed:
            records, aborted = _committed(partition, row.fetch_offset, allowed, is_first)
        else:
            records, aborted = (
                partition.read(row.fetch_offset, allowed, at_least_one=is_first),
                None,
            )
    except RequestRefused as refused:
        collected.has_error = True
        return _failed(row.partition, refused.code)
    collected.size += len(records)
    collected.partitions.append(partition)
    return {
        "partition_index": row.partition,
        "high_watermark": partition.end_offset,
        "last_stable_offset": partition.stable_offset,
        "log_start_offset": partition.start_offset,
        "aborted_transactions": aborted,
        "records": records,
    }


def _committed(
    partition: Partition, offset: int, max_bytes: int, is_first: bool
) -> tuple[memoryview, list[Fields]]:
    records, aborted = partition.read_committed(offset, max_bytes, at_least_one=is_first)
    return records, [
        {"producer_id": row.producer_id, "first_offset": row.first_offset} for row in aborted
    ]


def _failed(index: int, code: ErrorCode) -> Fields:
    # Never null: Java clients before 3.0 and sarama cannot read an answer with null records.
    return {
        "partition_index": index,
        "error_code": code,
        "high_watermark": -1,
        "last_stable_offset": -1,
        "log_start_offset": -1,
        "records": _NO_RECORDS,
    }


async def _wait_for_append(partitions: list[Partition], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _wake, waiter)
    for partition in partitions:
        partition.wait_for_append(waiter)
    try:
        await waiter
    finally:
        timer.cancel()
        for partition in partitions:
            partition.forget(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
