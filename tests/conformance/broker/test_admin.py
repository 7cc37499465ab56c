"""Administration by both libraries: topics, settings, groups, the cluster."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidPartitionsError
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    NewTopic,
    ResourceType,
)
from confluent_kafka.admin import ConfigResource as ConfluentResource


@pytest.fixture
def admin(kafka: Any) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap})


async def _result(future: Any) -> Any:
    return await asyncio.to_thread(future.result, 10)


async def _refusal(future: Any) -> int:
    with pytest.raises(KafkaException) as caught:
        await _result(future)
    return int(caught.value.args[0].code())


async def _settings(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfluentResource(ResourceType.TOPIC, topic)
    rows = await _result(admin.describe_configs([resource])[resource])
    return {name: row.value for name, row in rows.items()}


async def test_a_topic_is_made_listed_and_deleted(kafka: Any, admin: AdminClient) -> None:
    name = kafka.name("topic")
    await _result(admin.create_topics([NewTopic(name, 3, 1)])[name])
    await kafka.until(lambda: name in admin.list_topics(timeout=5).topics)
    assert len(admin.list_topics(name, timeout=5).topics[name].partitions) == 3
    again = admin.create_topics([NewTopic(name, 3, 1)])[name]
    assert await _refusal(again) == KafkaError.TOPIC_ALREADY_EXISTS
    await _result(admin.delete_topics([name])[name])
    await kafka.until(lambda: name not in admin.list_topics(timeout=5).topics)
    gone = admin.delete_topics([name])[name]
    assert await _refusal(gone) == KafkaError.UNKNOWN_TOPIC_OR_PART


async def test_a_topic_made_again_under_its_old_name_is_empty(
    kafka: Any, admin: AdminClient
) -> None:
    topic = await kafka.topic()
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"old")
    await _result(admin.delete_topics([topic])[topic])
    await kafka.until(lambda: topic not in admin.list_topics(timeout=5).topics)

    async def is_made() -> bool:
        try:
            await _result(admin.create_topics([NewTopic(topic, 1, 1)])[topic])
        except KafkaException:
            return False  # Apache Kafka deletes in the background
        return True

    await kafka.until(is_made)
    consumer = await kafka.consumer()
    partition = TopicPartition(topic, 0)
    assert await consumer.end_offsets([partition]) == {partition: 0}


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda n: NewTopic("no spaces!", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (lambda n: NewTopic(n, 0, 1), KafkaError.INVALID_PARTITIONS),
        (lambda n: NewTopic(n, 1, 30), KafkaError.INVALID_REPLICATION_FACTOR),
        (lambda n: NewTopic(n, 1, 1, config={"retention.ms": "x"}), KafkaError.INVALID_CONFIG),
        (lambda n: NewTopic(n, 1, 1, config={"no.such": "1"}), KafkaError.INVALID_CONFIG),
    ],
    ids=["name", "partitions", "replicas", "value", "setting"],
)
async def test_a_topic_that_cannot_be_is_refused(
    kafka: Any, admin: AdminClient, make: Callable[[str], NewTopic], code: int
) -> None:
    topic = make(kafka.name("topic"))
    assert await _refusal(admin.create_topics([topic])[topic.topic]) == code
    assert topic.topic not in admin.list_topics(timeout=5).topics


async def test_validate_only_makes_nothing(kafka: Any, admin: AdminClient) -> None:
    name = kafka.name("topic")
    await _result(admin.create_topics([NewTopic(name, 1, 1)], validate_only=True)[name])
    assert name not in admin.list_topics(timeout=5).topics


async def test_partitions_are_added_and_usable(kafka: Any) -> None:
    topic = await kafka.topic(partitions=1)
    admin = await kafka.admin()
    producer = await kafka.producer(metadata_max_age_ms=200)
    await producer.send_and_wait(topic, b"first")
    answer = await admin.create_partitions({topic: NewPartitions(3)})
    assert answer.topic_errors[0][1] == 0
    with pytest.raises(InvalidPartitionsError):
        await admin.create_partitions({topic: NewPartitions(2)})

    async def has_three() -> bool:
        return len(await producer.partitions_for(topic)) == 3

    await kafka.until(has_three)
    metadata = await producer.send_and_wait(topic, b"second", partition=2)
    assert (metadata.partition, metadata.offset) == (2, 0)


async def test_settings_are_read_and_changed_one_by_one(kafka: Any, admin: AdminClient) -> None:
    topic = await kafka.topic(retention_ms=3_600_000, max_message_bytes=5_000)
    assert (await _settings(admin, topic))["retention.ms"] == "3600000"
    change = ConfluentResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("max.message.bytes", None, incremental_operation=AlterConfigOpType.DELETE),
        ],
    )
    await _result(admin.incremental_alter_configs([change])[change])

    async def is_changed() -> bool:
        settings = await _settings(admin, topic)
        return (settings["retention.ms"], settings["max.message.bytes"]) == ("7200000", "1048588")

    await kafka.until(is_changed)


async def test_the_old_way_to_change_settings_replaces_them_all(kafka: Any) -> None:
    topic = await kafka.topic(max_message_bytes=5_000)
    admin = await kafka.admin()
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "1000000"})
    (answer,) = await admin.alter_configs([resource])
    assert answer.resources[0][0] == 0

    async def is_replaced() -> bool:
        (described,) = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic)]
        )
        rows = {row[0]: row[1] for row in described.resources[0][4]}
        return (rows["retention.ms"], rows["max.message.bytes"]) == ("1000000", "1048588")

    await kafka.until(is_replaced)


async def test_a_setting_takes_effect_without_a_restart(kafka: Any, admin: AdminClient) -> None:
    topic = await kafka.topic(max_message_bytes=2_000)
    producer = await kafka.producer()
    change = ConfluentResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry("max.message.bytes", "10000", incremental_operation=AlterConfigOpType.SET)
        ],
    )
    await _result(admin.incremental_alter_configs([change])[change])

    async def is_accepted() -> bool:
        try:
            await producer.send_and_wait(topic, b"x" * 5_000)
        except Exception:
            return False
        return True

    await kafka.until(is_accepted)


async def test_groups_are_listed_described_and_deleted(kafka: Any, admin: AdminClient) -> None:
    topic, group = await kafka.topic(partitions=2), kafka.name("group")
    consumer = await kafka.consumer(topic, group_id=group, client_id="me")
    await kafka.until(lambda: len(consumer.assignment()) == 2)
    described = await _result(admin.describe_consumer_groups([group])[group])
    assert described.state == ConsumerGroupState.STABLE
    (member,) = described.members
    assert member.client_id == "me"
    assert len(member.assignment.topic_partitions) == 2
    assert await _refusal(admin.delete_consumer_groups([group])[group]) == (
        KafkaError.NON_EMPTY_GROUP
    )
    await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(0, "")})
    await consumer.stop()
    listed = await _result(admin.list_consumer_groups())
    assert group in {row.group_id for row in listed.valid}
    await _result(admin.delete_consumer_groups([group])[group])
    listed = await _result(admin.list_consumer_groups())
    assert group not in {row.group_id for row in listed.valid}
    assert await _refusal(admin.delete_consumer_groups([group])[group]) == (
        KafkaError.GROUP_ID_NOT_FOUND
    )


async def test_all_offsets_of_a_group_are_told_and_go_with_their_topic(
    kafka: Any, admin: AdminClient
) -> None:
    kept, deleted, group = await kafka.topic(), await kafka.topic(), kafka.name("group")
    partitions = [TopicPartition(kept, 0), TopicPartition(deleted, 0)]
    consumer = await kafka.consumer(group_id=group)
    consumer.assign(partitions)
    await consumer.commit({partition: OffsetAndMetadata(0, "") for partition in partitions})
    aiokafka_admin = await kafka.admin()
    offsets = await aiokafka_admin.list_consumer_group_offsets(group)
    assert set(offsets) == set(partitions)
    await _result(admin.delete_topics([deleted])[deleted])

    async def only_one_is_left() -> bool:
        return set(await aiokafka_admin.list_consumer_group_offsets(group)) == {partitions[0]}

    await kafka.until(only_one_is_left)


async def test_the_cluster_describes_itself(kafka: Any, admin: AdminClient) -> None:
    described = await _result(admin.describe_cluster())
    _, port = kafka.bootstrap.rsplit(":", 1)
    assert described.cluster_id
    assert described.controller.id in {node.id for node in described.nodes}
    assert int(port) in {node.port for node in described.nodes}
