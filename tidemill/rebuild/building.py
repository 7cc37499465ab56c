"""Plays the log into a new store."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from google.protobuf.message import Message
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from tidemill.bus import Delivery, Unit, open_bus
from tidemill.bus.envelope import ORIGIN_TIME, Record
from tidemill.bus.policy import RetryPolicy
from tidemill.bus.replaying import ReplayConsumer
from tidemill.bus.tables import OutboxRow
from tidemill.clock import SystemClock
from tidemill.db import open_database
from tidemill.rebuild.clock import ReplayClock
from tidemill.rebuild.log import Published, Reading
from tidemill.rebuild.plan import Input, Output, Plan, Stage
from tidemill.security.keys import mesh_key
from tidemill.security.tokens import Identity
from tidemill.settings import MeshSettings
from tidemill.telemetry import Telemetry
from tidemill.telemetry.catalogue import METRICS
from tidemill.telemetry.telemetry import create_instruments
from tidemill.topics import CATALOGUE, DEAD_LETTER_RETENTION_MS

Progress = Callable[[int], None]
PROGRESS_EVERY = 500
ONE_TRY = RetryPolicy(attempts=1, hold_seconds=0.0)
"""What cannot be applied stops the rebuild; the store in use stays as it is."""


async def never(message: Message, delivery: Delivery) -> None:
    """The handler of a topic that is only read back."""


@dataclass
class Counts:
    """What became of the records that were read."""

    events: int = 0
    unreadable: int = 0
    published: int = 0


@asynccontextmanager
async def open_stage(service: str, settings: MeshSettings, folder: Path) -> AsyncIterator[Stage]:
    """A new, empty store in the folder, with a bus over it that never reaches the broker."""
    clock = ReplayClock()
    identity = identity_of(service, settings)
    url = f"sqlite+aiosqlite:///{folder / 'rows.db'}"
    async with (
        open_database(url, durable=False) as database,
        open_bus(service, settings.kafka_address, database, identity, clock, silent()) as bus,
    ):
        yield Stage(service, settings, folder, database, bus, clock, identity)


def identity_of(service: str, settings: MeshSettings) -> Identity:
    key = mesh_key(settings.home / "keys", create=settings.dev)
    return Identity(key, f"service:{service}", SystemClock())


def silent() -> Telemetry:
    """No spans and no figures: what is replayed happened long ago and was counted then."""
    meter = NoOpMeter("tidemill")
    return Telemetry(NoOpTracer(), meter, CollectorRegistry(), create_instruments(meter, METRICS))


@dataclass
class Builder:
    """Each pass takes what came to the log since the one before."""

    stage: Stage
    plan: Plan
    published: Published
    consumers: dict[str, ReplayConsumer[Any]]
    readings: list[Reading]
    counts: Counts = field(default_factory=Counts)

    async def play(self, progress: Progress) -> None:
        """Raises ReplayFailed, LogCut, Fault."""
        await self.published.read()
        self._tell_parked()
        # A later phase knows what an earlier one read, so its end is looked at first.
        for reading in reversed(self.readings[1:]):
            await reading.mark()
        for phase, reading in zip(self.plan.phases, self.readings, strict=True):
            self._return_to_left(reading)
            sources = {source.topic.name: source for source in phase}
            async for record in reading.records():
                await self._take(sources[record.topic], record)
                self.counts.events += 1
                if self.counts.events % PROGRESS_EVERY == 0:
                    progress(self.counts.events)
        self.stage.clock.event_time = None
        progress(self.counts.events)
        await self.plan.settle()

    def _return_to_left(self, reading: Reading) -> None:
        """What was left may have been done by the service since; the inbox knows the rest."""
        for name in reading.names:
            left = self.consumers[name].left
            for index, offset in left.items():
                reading.positions[TopicPartition(name, index)] = offset
            left.clear()

    def _tell_parked(self) -> None:
        for consumer in self.consumers.values():
            consumer.parked = frozenset(self.published.parked.get(consumer.name, ()))

    async def _take(self, source: Input[Any] | Output[Any], record: Record) -> None:
        self.stage.clock.event_time = record.time
        consumer = self.consumers[source.topic.name]
        if isinstance(source, Input):
            await consumer.take(record)
            return
        message = consumer.message_of(record)
        if message is None:
            self.counts.unreadable += 1
            return
        tenant = record.key.partition(b"/")[0].decode()
        async with self.stage.database.transaction() as session:
            unit = Unit(session, self.stage.service, tenant, self.stage.clock)
            await source.restore(message, record, unit)

    async def prune(self) -> int:
        """Forget to publish what is on the log already; returns how many events were missing."""
        await self.published.read()
        async with self.stage.database.transaction() as session:
            rows = (await session.scalars(select(OutboxRow))).all()
            missing = 0
            for row in rows:
                if self._is_known(row) or not await self.plan.wanted(session, row):
                    await session.delete(row)
                else:
                    missing += 1
        self.counts.published = missing
        return missing

    def _is_known(self, row: OutboxRow) -> bool:
        headers = json.loads(row.headers)
        if ORIGIN_TIME in headers and is_expired(headers[ORIGIN_TIME]):
            return True
        return self.published.has(row.topic, row.key, headers)

    def left(self) -> dict[str, dict[int, int]]:
        """Topic to the first offset of each partition that is left to the service."""
        return {name: dict(c.left) for name, c in self.consumers.items() if c.left}


def is_expired(origin_time: str) -> bool:
    """A letter that old was dropped by its topic, so that it is not there says nothing."""
    age = SystemClock().now() - datetime.fromisoformat(origin_time)
    return age > timedelta(milliseconds=DEAD_LETTER_RETENTION_MS)


def builder_of(stage: Stage, plan: Plan) -> Builder:
    bootstrap = stage.settings.kafka_address
    written = [topic.name for topic in CATALOGUE if topic.owner == stage.service]
    letters = [source.topic.dead_letter_name for source in plan.inputs]
    return Builder(
        stage=stage,
        plan=plan,
        published=Published(Reading(bootstrap, written), Reading(bootstrap, letters, whole=False)),
        consumers=dict(consumers_of(stage, plan)),
        readings=[Reading(bootstrap, [s.topic.name for s in phase]) for phase in plan.phases],
    )


def consumers_of(stage: Stage, plan: Plan) -> Iterable[tuple[str, ReplayConsumer[Any]]]:
    for phase in plan.phases:
        for source in phase:
            yield source.topic.name, consumer_of(stage, source)


def consumer_of(stage: Stage, source: Input[Any] | Output[Any]) -> ReplayConsumer[Any]:
    return ReplayConsumer(
        topic=source.topic,
        handler=source.handler if isinstance(source, Input) else never,
        service=stage.service,
        database=stage.database,
        identity=stage.identity,
        clock=stage.clock,
        telemetry=silent(),
        wake_relay=stage.bus.relay.wake,
        policy=ONE_TRY,
        leaves=source.leaves if isinstance(source, Input) else None,
    )
