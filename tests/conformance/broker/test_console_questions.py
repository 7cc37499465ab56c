"""What consoles (AKHQ, kafka-ui, Redpanda Console) and admin tools ask when they start."""

from typing import Any

import pytest

from tests.conformance.broker.wire import Wire, batch

OK, UNKNOWN_TOPIC, UNSUPPORTED, SECURITY_DISABLED = 0, 3, 35, 54
GROUP_NOT_FOUND, ELECTION_NOT_NEEDED, NO_RESOURCE, NO_TRANSACTIONAL_ID = 69, 84, 91, 105


@pytest.fixture
async def wire(kafka: Any) -> Wire:
    return await Wire.open(kafka)


@pytest.fixture
async def topic(kafka: Any, wire: Wire) -> str:
    name = str(await kafka.topic())
    one = bytes(batch(b"value", producer_id=5_000, epoch=2, sequence=3))
    assert await wire.produce(name, one) == (OK, 0)
    return name


@pytest.mark.parametrize("version", [1, 2, 3, 4])
async def test_log_dirs_tell_sizes(wire: Wire, topic: str, version: int) -> None:
    asked = [{"topic": topic, "partitions": [0, 7]}, {"topic": "nope", "partitions": [0]}]
    (folder,) = (await wire.ask(35, version, topics=asked)).results
    assert (folder.error_code, folder.log_dir[:1]) == (OK, "/")
    (row,) = folder.topics
    ((index, size),) = [(each.partition_index, each.partition_size) for each in row.partitions]
    assert (row.topic if hasattr(row, "topic") else row.name, index) == (topic, 0)
    assert size > 61
    (folder,) = (await wire.ask(35, version, topics=None)).results
    assert topic in {row.name for row in folder.topics}


async def test_there_is_no_access_control_and_no_quota(wire: Wire) -> None:
    anything = {"resource_type_filter": 1, "operation": 1, "permission_type": 1}
    for version in (1, 2, 3):
        answer = await wire.ask(29, version, **anything, pattern_type_filter=1)
        assert (answer.error_code, answer.resources) == (SECURITY_DISABLED, ())
    for version in (0, 1):
        answer = await wire.ask(48, version, components=[])
        assert (answer.error_code, answer.entries) == (OK, ())
    assert (await wire.ask(50, 0, users=None)).results == ()
    (row,) = (await wire.ask(50, 0, users=[{"name": "nobody"}])).results
    assert row.error_code == NO_RESOURCE


async def test_nothing_moves_and_every_partition_has_its_leader(wire: Wire, topic: str) -> None:
    assert (await wire.ask(46, 0, topics=None)).topics == ()
    asked = [{"topic": topic, "partitions": [0, 7]}]
    for version in (1, 2):
        (row,) = (await wire.ask(43, version, topic_partitions=asked)).replica_election_results
        codes = [each.error_code for each in row.partition_result]
        assert codes == [ELECTION_NOT_NEEDED, UNKNOWN_TOPIC]


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_the_quorum_describes_itself(wire: Wire, topic: str, version: int) -> None:
    asked = [
        {"topic_name": name, "partitions": [{"partition_index": 0}]}
        for name in ("__cluster_metadata", topic)
    ]
    answer = await wire.ask(55, version, topics=asked[:1])
    (row,) = answer.topics[0].partitions
    assert (answer.error_code, row.error_code) == (OK, OK)
    assert row.leader_id in {voter.replica_id for voter in row.current_voters}
    (row,) = (await wire.ask(55, version, topics=asked[1:])).topics[0].partitions
    assert row.error_code == UNKNOWN_TOPIC


async def test_producers_of_a_partition_are_told(wire: Wire, topic: str) -> None:
    asked = [{"name": topic, "partition_indexes": [0, 7]}]
    here, nowhere = (await wire.ask(61, 0, topics=asked)).topics[0].partitions
    (row,) = here.active_producers
    assert (row.producer_id, row.producer_epoch, row.last_sequence) == (5_000, 2, 3)
    assert row.current_txn_start_offset == -1
    assert nowhere.error_code == UNKNOWN_TOPIC


async def test_transactions_are_listed_and_described(kafka: Any, wire: Wire, topic: str) -> None:
    name = kafka.name("id")
    producer = await kafka.producer(transactional_id=name)
    async with producer.transaction():
        await producer.send_and_wait(topic, b"value")
        answer = await wire.ask(66, 1, state_filters=["Ongoing", "Nonsense"])
        assert name in {row.transactional_id for row in answer.transaction_states}
        assert answer.unknown_state_filters == ("Nonsense",)
        hours = await wire.ask(66, 1, duration_filter=3_600_000)
        assert name not in {row.transactional_id for row in hours.transaction_states}
        found, stranger = (
            await wire.ask(65, 0, transactional_ids=[name, "nobody"])
        ).transaction_states
        assert (found.transaction_state, found.topics[0].topic) == ("Ongoing", topic)
        assert stranger.error_code == NO_TRANSACTIONAL_ID
        (row,) = (await wire.ask(61, 0, topics=[{"name": topic, "partition_indexes": [0]}])).topics
        starts = {each.current_txn_start_offset for each in row.partitions[0].active_producers}
        assert 1 in starts
    answer = await wire.ask(66, 0, state_filters=["Ongoing"])
    assert name not in {row.transactional_id for row in answer.transaction_states}


@pytest.mark.parametrize("version", range(7))
async def test_an_unknown_group_is_dead_and_lately_an_error(wire: Wire, version: int) -> None:
    (row,) = (await wire.ask(15, version, groups=["no-such-group"])).groups
    assert row.group_state == "Dead"
    assert row.error_code == (GROUP_NOT_FOUND if version >= 6 else OK)


async def test_a_group_can_be_deleted_after_its_offsets(kafka: Any, wire: Wire, topic: str) -> None:
    group = kafka.name("group")
    offset = {"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}
    topics = [{"name": topic, "partitions": [offset]}]
    at = {"generation_id_or_member_epoch": -1, "member_id": ""}
    await wire.ask(8, 2, group_id=group, topics=topics, **at)
    asked = [{"name": topic, "partitions": [{"partition_index": 0}]}]
    assert (await wire.ask(47, 0, group_id=group, topics=asked)).error_code == OK
    (row,) = (await wire.ask(15, 6, groups=[group])).groups
    assert (row.error_code, row.group_state) == (OK, "Empty")
    codes = [(await wire.ask(42, 1, groups_names=[group])).results[0].error_code for _ in "12"]
    assert codes == [OK, GROUP_NOT_FOUND]


@pytest.mark.parametrize(
    ("version", "timestamp", "expected"),
    [
        (7, -4, (UNSUPPORTED, -1)),
        *((version, -4, (OK, 0)) for version in (8, 9, 10)),
        (8, -5, (UNSUPPORTED, -1)),
        (9, -5, (OK, -1)),
        (6, -3, (UNSUPPORTED, -1)),
        (10, -9, (UNSUPPORTED, -1)),
    ],
)
async def test_offsets_by_their_special_times(
    wire: Wire, topic: str, version: int, timestamp: int, expected: tuple[int, int]
) -> None:
    asked = {"partition_index": 0, "timestamp": timestamp, "current_leader_epoch": -1}
    topics = [{"name": topic, "partitions": [asked]}]
    (row,) = (await wire.ask(2, version, replica_id=-1, topics=topics)).topics[0].partitions
    assert (row.error_code, row.offset) == expected
