"""Moves a consumer group back to the events that were left to its service."""

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from tidemill.bus.dead_letters.log import broker_faults
from tidemill.bus.goodbye import say_goodbye
from tidemill.bus.kafka import group_of


async def rewind(bootstrap: str, service: str, left: Mapping[str, Mapping[int, int]]) -> int:
    """The service gets these offsets, and what follows them, again; its inbox knows the rest.

    left: topic to the first offset of each partition. Returns how many partitions moved. The
    group must have no members. Raises Fault(DEPENDENCY_UNAVAILABLE).
    """
    moved = 0
    for topic, offsets in left.items():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group_of(service, topic),
            enable_auto_commit=False,
        )
        async with broker_faults():
            await consumer.start()
        try:
            async with broker_faults():
                moved += await _move(consumer, topic, offsets)
        finally:
            await say_goodbye(consumer)
    return moved


async def _move(consumer: AIOKafkaConsumer, topic: str, offsets: Mapping[int, int]) -> int:
    """Only backwards: what was never taken comes anyway."""
    consumer.assign([TopicPartition(topic, index) for index in offsets])
    back = {}
    for partition in consumer.assignment():
        committed = await consumer.committed(partition)
        if committed is not None and committed > offsets[partition.partition]:
            back[partition] = offsets[partition.partition]
    if back:
        await consumer.commit(back)
    return len(back)
