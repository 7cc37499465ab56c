"""Waits until a mesh has nothing left to do, seen from outside."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.ledger.books import ERRORS, reading
from tests.ledger.log import committed
from tests.ledger.subscriptions import consumers, group_id

POLL_SECONDS = 0.2
STEP_SECONDS = 10.0
MOST = 5

UNFINISHED = {
    "evaluator": (
        "SELECT count(*) FROM waiting_adapters",
        "SELECT count(*) FROM evaluations WHERE NOT done",
    ),
}
"""Work that a service does by the clock, beside its outbox."""


class NotQuiet(Exception):
    """What was still moving when the time was up."""


async def until_quiet(
    bootstrap: str, home: Path, services: Iterable[str], seconds: float = 60.0
) -> None:
    """Every record is committed by every group and every outbox is empty.

    Raises NotQuiet when what is left is the same for `seconds`, or after MOST times as long: a
    replay of a long log takes its time.
    """
    names, moving = tuple(services), ["the broker is silent"]
    loop = asyncio.get_running_loop()
    end = loop.time() + MOST * seconds
    try:
        async with asyncio.timeout(seconds) as patience:
            while moving:
                before = moving
                try:
                    async with asyncio.timeout(STEP_SECONDS):
                        moving = await still_moving(bootstrap, home, names)
                except (KafkaError, OSError, TimeoutError) as error:
                    if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                        raise
                    moving = [f"broker: {type(error).__name__}"]
                if moving != before:
                    patience.reschedule(min(end, loop.time() + seconds))
                if moving:
                    await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise NotQuiet(f"for {seconds:.0f} s: {', '.join(moving)}") from None


async def still_moving(bootstrap: str, home: Path, services: tuple[str, ...]) -> list[str]:
    """Rows first: what leaves an outbox after that is seen in the log."""
    rows = [each for service in services for each in unfinished(home, service)]
    return rows or await lagging(bootstrap, services)


def unfinished(home: Path, service: str) -> list[str]:
    """Tables of a service that still hold work; a store that is not there yet holds none."""
    found: list[str] = []
    for query in ("SELECT count(*) FROM outbox", *UNFINISHED.get(service, ())):
        try:
            with reading(home, service) as reader:
                count = reader.tuples(query)[0][0] if reader else 0
        except ERRORS as error:
            found.append(f"{service}: {error}")
            continue
        if count:
            found.append(f"{service}: {count} rows of {query.split()[3]}")
    return found


async def lagging(bootstrap: str, services: tuple[str, ...]) -> list[str]:
    """Groups that have not committed the end of their topic."""
    done = await committed(bootstrap, services)
    client: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        await client.start()
        there = await client.topics()
        found: list[str] = []
        for service, topic in consumers(services):
            if topic.name not in there:
                continue
            places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            ends = await client.end_offsets(places)
            group = group_id(service, topic)
            lag = sum(end - done[group].get(place.partition, 0) for place, end in ends.items())
            if lag:
                found.append(f"{service}: {lag} of {topic.name}")
        return found
    finally:
        await client.stop()
