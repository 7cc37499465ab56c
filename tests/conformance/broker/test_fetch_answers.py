"""Fetch as clients of other languages send it: what an answer holds when there is nothing."""

from typing import Any

import pytest

from tests.conformance.broker.wire import Wire, batch

FETCH, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC, NO_SUCH_SESSION = 1, 1, 3, 70


@pytest.fixture
async def wire(kafka: Any) -> Wire:
    return await Wire.open(kafka)


@pytest.fixture
async def topic(kafka: Any, wire: Wire) -> str:
    name = str(await kafka.topic())
    assert await wire.produce(name, bytes(batch(b"value"))) == (0, 0)
    return name


async def _fetch(
    wire: Wire, version: int, *asked: tuple[str, int, int], **session: int
) -> tuple[int, list[Any]]:
    """(error of the whole, rows) for (topic, partition, offset)s."""
    topics = [
        {
            "topic": topic,
            "partitions": [
                {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
            ],
        }
        for topic, index, offset in asked
    ]
    limits = {"max_wait": 100, "min_bytes": 1, "max_bytes": 1 << 20}
    answer = await wire.ask(FETCH, version, replica_id=-1, topics=topics, **limits, **session)
    rows = [row for topic in answer.responses for row in topic.partitions]
    return int(getattr(answer, "error_code", 0)), rows


@pytest.mark.parametrize("version", range(4, 12))
async def test_an_error_comes_with_an_empty_record_set_and_never_with_null(
    wire: Wire, topic: str, version: int
) -> None:
    asked = [(topic, 0, 99), (topic, 7, 0), ("no-such-topic", 0, 0)]
    _, rows = await _fetch(wire, version, *asked)
    codes = {OFFSET_OUT_OF_RANGE: 1, UNKNOWN_TOPIC: 2}
    assert {code: [row.error_code for row in rows].count(code) for code in codes} == codes
    assert [(row.records, row.high_watermark) for row in rows] == [(b"", -1)] * 3


async def test_an_error_in_one_partition_does_not_hide_the_records_of_another(
    wire: Wire, topic: str
) -> None:
    _, rows = await _fetch(wire, 11, (topic, 0, 99), ("no-such-topic", 0, 0))
    assert all(row.error_code for row in rows)
    _, rows = await _fetch(wire, 11, ("no-such-topic", 0, 0), (topic, 0, 0))
    assert sorted(int(row.error_code) for row in rows) == [0, UNKNOWN_TOPIC]
    assert max(len(row.records) for row in rows) > 61


@pytest.mark.parametrize(
    ("session_id", "epoch"), [(-1, -1), (0, -1), (0, 0), (5, -1), (5, 0), (-1, 0)]
)
async def test_a_full_fetch_is_answered_whatever_session_it_names(
    wire: Wire, topic: str, session_id: int, epoch: int
) -> None:
    code, rows = await _fetch(wire, 11, (topic, 0, 0), session_id=session_id, session_epoch=epoch)
    assert code == 0
    assert len(rows[0].records) > 61


@pytest.mark.parametrize(("session_id", "epoch"), [(0, 5), (77, 3), (0, -2)])
async def test_a_session_that_is_not_there_cannot_be_gone_on_with(
    wire: Wire, topic: str, session_id: int, epoch: int
) -> None:
    code, rows = await _fetch(wire, 11, (topic, 0, 0), session_id=session_id, session_epoch=epoch)
    assert (code, rows) == (NO_SUCH_SESSION, [])
