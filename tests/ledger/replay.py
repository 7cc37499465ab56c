"""Replaying every topic from offset 0 changes nothing."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.ledger.books import read_books
from tests.ledger.log import Log
from tests.ledger.subscriptions import consumers, group_id
from tests.ledger.vectors import read_vectors

State = Mapping[str, str]
"""Name of a store's part to the hash of all that it holds."""

MOVING = frozenset({"outbox"})
"""Tables whose counters move although they say nothing."""


async def state_of(bootstrap: str, home: Path, services: Iterable[str]) -> State:
    """Every table, the vectors and the log. The services are stopped or quiet, the broker runs."""
    state: dict[str, str] = {}
    for service in services:
        for table, rows in read_books(home, service).tables.items():
            if table not in MOVING or rows:
                state[f"{service}.{table}"] = _hash(sorted(repr(row) for row in rows))
    for name, chunks in (await read_vectors(home)).items():
        state[f"vectors.{name}"] = _hash(sorted(map(repr, chunks.items())))
    log = Log(bootstrap)
    await log.read()
    for (topic, partition), entries in log.records.items():
        state[f"log.{topic}/{partition}"] = _hash([repr(entry) for entry in entries])
    return state


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def differences(before: State, after: State) -> list[str]:
    """Names of the parts that are not the same."""
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )


async def rewind(bootstrap: str, services: Iterable[str]) -> None:
    """Set every group of the services back to offset 0. The services must not run."""
    for service, topic in consumers(tuple(services)):
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group_id(service, topic),
            enable_auto_commit=False,
        )
        try:
            await consumer.start()
            consumer.assign(places)
            await consumer.commit(dict.fromkeys(places, 0))
        finally:
            await consumer.stop()
