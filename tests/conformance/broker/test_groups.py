"""Consumer groups as clients see them: every partition has one reader, and work goes on."""

import asyncio
import subprocess
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from confluent_kafka import Consumer

MEMBER = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer
async def main(bootstrap, topic, group):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group,
        session_timeout_ms=6000, heartbeat_interval_ms=500, enable_auto_commit=False)
    await consumer.start()
    while True:
        await consumer.getmany(timeout_ms=100)
        print(len(consumer.assignment()), flush=True)
asyncio.run(main(*sys.argv[1:]))
"""


def _share(consumer: AIOKafkaConsumer) -> set[int]:
    return {partition.partition for partition in consumer.assignment()}


def _is_shared_by(*consumers: AIOKafkaConsumer, partitions: int) -> bool:
    shares = [_share(consumer) for consumer in consumers]
    everything = sorted(partition for share in shares for partition in share)
    return everything == list(range(partitions)) and all(shares)


async def _consume(consumer: AIOKafkaConsumer, seen: list[bytes]) -> None:
    """Reads and commits for ever, as a service does."""
    while True:
        for batch in (await consumer.getmany(timeout_ms=50)).values():
            seen.extend(record.value for record in batch)
        try:
            await consumer.commit()
        except (KafkaError, IllegalStateError):
            await asyncio.sleep(0.02)


async def test_a_restarted_member_goes_on_where_it_committed(kafka: Any) -> None:
    topic, group = await kafka.topic(), kafka.name("group")
    producer = await kafka.producer()
    for index in range(10):
        await producer.send_and_wait(topic, b"%d" % index)
    partition = TopicPartition(topic, 0)
    first = await kafka.consumer(topic, group_id=group)
    await kafka.take(first, 10)
    await first.commit({partition: OffsetAndMetadata(4, "note")})
    await first.stop()
    second = await kafka.consumer(topic, group_id=group)
    assert await second.committed(partition) == 4
    assert [int(r.value) for r in await kafka.take(second, 6)] == [4, 5, 6, 7, 8, 9]


async def test_members_share_the_partitions_and_a_leaver_hands_its_share_over(
    kafka: Any,
) -> None:
    topic, group = await kafka.topic(partitions=6), kafka.name("group")
    members = [await kafka.consumer(topic, group_id=group) for _ in range(3)]
    await kafka.until(lambda: _is_shared_by(*members, partitions=6))
    await members[1].stop()
    await kafka.until(lambda: _is_shared_by(members[0], members[2], partitions=6))


async def test_nothing_is_missed_while_members_join_commit_and_leave(kafka: Any) -> None:
    topic, group = await kafka.topic(partitions=4), kafka.name("group")
    producer = await kafka.producer(enable_idempotence=True)
    seen: list[bytes] = []
    first = await kafka.consumer(topic, group_id=group)
    tasks = [asyncio.create_task(_consume(first, seen))]
    for index in range(300):
        await producer.send_and_wait(topic, b"%d" % index)
        if index in (50, 100, 150):
            member = await kafka.consumer(topic, group_id=group)
            tasks.append(asyncio.create_task(_consume(member, seen)))
        if index == 200:
            tasks.pop().cancel()
            await member.stop()
    await kafka.until(lambda: len(set(seen)) == 300, seconds=30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_killed_member_is_replaced_after_its_session(kafka: Any) -> None:
    topic, group = await kafka.topic(partitions=4), kafka.name("group")
    survivor = await kafka.consumer(topic, group_id=group)
    seen: list[bytes] = []
    task = asyncio.create_task(_consume(survivor, seen))
    process = _start_member(kafka.bootstrap, topic, group)
    try:
        await asyncio.to_thread(_wait_for_share, process)
        await kafka.until(lambda: 0 < len(_share(survivor)) < 4)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    await kafka.until(lambda: _is_shared_by(survivor, partitions=4), seconds=30)
    producer = await kafka.producer()
    for index in range(4):
        await producer.send_and_wait(topic, b"%d" % index, partition=index)
    await kafka.until(lambda: len(seen) == 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _start_member(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MEMBER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for_share(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 0:
            return


async def test_clients_of_two_libraries_share_a_group(kafka: Any) -> None:
    topic, group = await kafka.topic(partitions=4), kafka.name("group")
    other = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": "roundrobin",
        }
    )
    other.subscribe([topic])
    mine = await kafka.consumer(topic, group_id=group)
    seen: list[bytes] = []
    task = asyncio.create_task(_consume(mine, seen))

    async def is_shared() -> bool:
        message = await asyncio.to_thread(other.poll, 0.1)
        assert message is None or message.error() is None
        theirs = {partition.partition for partition in other.assignment()}
        return len(theirs) == len(_share(mine)) == 2 and not theirs & _share(mine)

    try:
        await kafka.until(is_shared)
    finally:
        await asyncio.to_thread(other.close)
    await kafka.until(lambda: _is_shared_by(mine, partitions=4))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_new_subscription_is_shared_anew(kafka: Any) -> None:
    first, second = await kafka.topic(partitions=2), await kafka.topic(partitions=2)
    group = kafka.name("group")
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})

    async def has(*topics: str) -> bool:
        await asyncio.to_thread(consumer.poll, 0.1)
        return {partition.topic for partition in consumer.assignment()} == set(topics)

    try:
        consumer.subscribe([first])
        await kafka.until(lambda: has(first))
        consumer.subscribe([first, second])
        await kafka.until(lambda: has(first, second))
    finally:
        await asyncio.to_thread(consumer.close)


async def test_groups_do_not_disturb_each_other(kafka: Any) -> None:
    topic = await kafka.topic()
    producer = await kafka.producer()
    await producer.send_and_wait(topic, b"value")
    groups = [kafka.name("group") for _ in range(3)]
    consumers = [await kafka.consumer(topic, group_id=group) for group in groups]
    for consumer in consumers:
        (record,) = await kafka.take(consumer, 1)
        assert record.offset == 0
    await consumers[0].commit()
    partition = TopicPartition(topic, 0)
    assert [await consumer.committed(partition) for consumer in consumers] == [1, None, None]


async def test_offsets_can_be_committed_without_joining(kafka: Any) -> None:
    topic, group = await kafka.topic(), kafka.name("group")
    partition = TopicPartition(topic, 0)
    outsider = await kafka.consumer(group_id=group)
    outsider.assign([partition])
    await outsider.commit({partition: OffsetAndMetadata(7, "by hand")})
    assert await outsider.committed(partition) == 7
