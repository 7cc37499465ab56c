"""Topics by id, in the flexible versions that have one."""

import struct
from typing import Any
from uuid import UUID, uuid4

import pytest
from kio.index import load_response_schema
from kio.serial import entity_reader

from tests.conformance.broker.wire import Wire

METADATA, CREATE, DELETE, TOPIC_PARTITIONS = 3, 19, 20, 75
OK, UNKNOWN_TOPIC, UNKNOWN_ID = 0, 3, 100


@pytest.fixture
async def wire(kafka: Any) -> Wire:
    return await Wire.open(kafka)


@pytest.fixture
async def topic(kafka: Any, wire: Wire) -> tuple[str, UUID]:
    """(name, id) of a topic with three partitions."""
    name = kafka.name("topic")
    asked = {"name": name, "num_partitions": 3, "replication_factor": 1}
    (made,) = (await wire.ask(CREATE, 7, topics=[asked], timeout=5_000)).topics
    assert made.error_code == OK
    assert made.topic_id is not None
    await kafka.until(lambda: _is_known(wire, name))
    return name, made.topic_id


async def _is_known(wire: Wire, name: str) -> bool:
    (row,) = await _metadata(wire, 9, name=name)
    return row.error_code == OK and len(row.partitions) == 3


async def _metadata(wire: Wire, version: int, **asked: Any) -> Any:
    return (await wire.ask(METADATA, version, topics=[asked])).topics


@pytest.mark.parametrize("version", [12, 13])
async def test_metadata_finds_a_topic_by_its_id(
    wire: Wire, topic: tuple[str, UUID], version: int
) -> None:
    (row,) = await _metadata(wire, version, name=None, topic_id=topic[1])
    assert (row.error_code, row.name, row.topic_id) == (OK, *topic)
    assert [each.leader_epoch for each in row.partitions] == [0, 0, 0]
    (row,) = await _metadata(wire, version, name=topic[0], topic_id=None)
    assert (row.name, row.topic_id) == topic
    stranger = uuid4()
    (row,) = await _metadata(wire, version, name=None, topic_id=stranger)
    assert (row.error_code, row.name, row.topic_id) == (UNKNOWN_ID, None, stranger)


@pytest.mark.parametrize("version", [9, 10, 11])
async def test_metadata_names_what_it_does_not_know(wire: Wire, version: int) -> None:
    (row,) = await _metadata(wire, version, name="no-such-topic")
    assert (row.error_code, row.name) == (UNKNOWN_TOPIC, "no-such-topic")


async def test_a_topic_is_deleted_by_its_id_or_its_name(
    kafka: Any, wire: Wire, topic: tuple[str, UUID]
) -> None:
    asked = [{"topic_id": uuid4()}, {"name": "no-such-topic"}, {"topic_id": topic[1]}]
    rows = (await wire.ask(DELETE, 6, topics=asked, timeout=5_000)).responses
    codes = {row.name: int(row.error_code) for row in rows}
    assert codes == {None: UNKNOWN_ID, "no-such-topic": UNKNOWN_TOPIC, topic[0]: OK}

    async def is_gone() -> bool:
        (row,) = await _metadata(wire, 12, name=None, topic_id=topic[1])
        return row.error_code == UNKNOWN_ID

    await kafka.until(is_gone)


async def test_topics_are_described_page_by_page(wire: Wire, topic: tuple[str, UUID]) -> None:
    asked: dict[str, Any] = {"topics": [{"name": topic[0]}], "response_partition_limit": 2}
    page = await wire.ask(TOPIC_PARTITIONS, 0, **asked)
    assert [(row.name, row.topic_id, len(row.partitions)) for row in page.topics] == [(*topic, 2)]
    assert (page.next_cursor.topic_name, page.next_cursor.partition_index) == (topic[0], 2)
    cursor = {"topic_name": topic[0], "partition_index": 2}
    page = await wire.ask(TOPIC_PARTITIONS, 0, **asked, cursor=cursor)
    assert [row.partition_index for row in page.topics[0].partitions] == [2]
    assert page.next_cursor is None
    page = await wire.ask(TOPIC_PARTITIONS, 0, topics=[{"name": "nope"}])
    assert page.topics[0].error_code == UNKNOWN_TOPIC


async def test_tagged_fields_nobody_knows_are_skipped(wire: Wire, topic: tuple[str, UUID]) -> None:
    name, tags = topic[0].encode(), b"\x02\x63\x03abc\x7f\x00"
    asked = bytes(16) + bytes([len(name) + 1]) + name + tags
    body = b"\x02" + asked + struct.pack(">??", False, False) + tags
    frame = await wire.ask_bytes(METADATA, 12, body, flexible=True)
    answer, _ = entity_reader(load_response_schema(METADATA, 12))(frame, 5)
    assert [(row.name, row.topic_id) for row in answer.topics] == [topic]
