"""Plays the log into a new store."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from google.protobuf.message import Message
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry
from sqlalchemy import select
from sqlalchemy.orm import Session

from tidemill.bus import Delivery, open_bus
from tidemill.bus.envelope import ORIGIN_TIME, Record
from tidemill.bus.failures import RetryPolicy
from tidemill.bus.replaying import ReplayConsumer
from tidemill.bus.tables import OutboxRow
from tidemill.bus.unit import OutboxValues
from tidemill.clock import SystemClock
from tidemill.db import open_database
from tidemill.rebuild.clock import ReplayClock, at_time
from tidemill.rebuild.log import Published, Reading
from tidemill.rebuild.plan import Input, Output, Plan, Stage
from tidemill.security.keys import mesh_key
from tidemill.security.tokens import Identity, service_subject
from tidemill.settings import MeshSettings
from tidemill.telemetry import Telemetry
from tidemill.telemetry.catalogue import METRICS
from tidemill.telemetry.telemetry import create_instruments
from tidemill.topics import CATALOGUE, DEAD_LETTER_RETENTION_MS

Progress = Callable[[int], None]
Source = Input[Any] | Output[Any]
Sources = Mapping[str, Source]
WINDOW = 500
WINDOW_BYTES = 16 * 1024 * 1024
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
    return Identity(key, service_subject(service), SystemClock())


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
        self._tell_dead_lettered()
        # A later phase knows what an earlier one read, so its end is looked at first.
        for reading in reversed(self.readings[1:]):
            await reading.mark()
        for phase, reading in zip(self.plan.phases, self.readings, strict=True):
            self._return_to_left(reading)
            sources = {source.topic.name: source for source in phase}
            async for records in windows(reading.records()):
                await self._take_all(sources, records)
                self.counts.events += len(records)
                progress(self.counts.events)
        progress(self.counts.events)
        await self.plan.settle()

    def _return_to_left(self, reading: Reading) -> None:
        """What was left may have been done by the service since; the inbox knows the rest."""
        for name in reading.names:
            left = self.consumers[name].left
            for index, offset in left.items():
                reading.positions[TopicPartition(name, index)] = offset
            left.clear()

    def _tell_dead_lettered(self) -> None:
        for consumer in self.consumers.values():
            consumer.dead_lettered = dict(self.published.dead_lettered.get(consumer.name, {}))

    async def _take_all(self, sources: Sources, records: Sequence[Record]) -> None:
        """Together, so that they share transactions; those of one key in the order of the log,
        whatever their topics."""
        lanes: dict[bytes, asyncio.Task[None]] = {}
        tasks = []
        for record in records:
            work = self._take(sources[record.topic], record, lanes.get(record.key))
            lanes[record.key] = asyncio.create_task(work)
            tasks.append(lanes[record.key])
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(
        self, source: Source, record: Record, before: "asyncio.Task[None] | None"
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        with at_time(record.time):
            if isinstance(source, Input):
                await self.consumers[source.topic.name].take(record)
            else:
                await self._restore(source, record)

    async def _restore(self, source: Output[Any], record: Record) -> None:
        message = self.consumers[source.topic.name].message_of(record)
        if message is None:
            self.counts.unreadable += 1
            return
        tenant = record.key.partition(b"/")[0].decode()
        await self.stage.bus.write(tenant, partial(source.restore, message, record))

    async def prune(self) -> int:
        """Forget to publish what is on the log already; returns how many events were missing."""
        await self.published.read()
        self.counts.published = await self.stage.database.write(self._missing)
        return self.counts.published

    def _missing(self, session: Session) -> int:
        missing = 0
        for row in session.scalars(select(OutboxRow)).all():
            headers = json.loads(row.headers)
            if self._is_known(row.topic, row.key, headers) or not self.plan.wanted(session, row):
                session.delete(row)
            else:
                missing += 1
        return missing

    def _is_known(self, topic: str, key: bytes, headers: Mapping[str, str]) -> bool:
        if ORIGIN_TIME in headers and is_expired(headers[ORIGIN_TIME]):
            return True
        return self.published.has(topic, key, headers)

    def is_news(self, values: OutboxValues) -> bool:
        """Of an event that a handler publishes: False when the log has it."""
        headers = json.loads(str(values["headers"]))
        key: Any = values["key"]
        return not self._is_known(str(values["topic"]), key, headers)

    def left(self) -> dict[str, dict[int, int]]:
        """Topic to the first offset of each partition that is left to the service."""
        return {name: dict(c.left) for name, c in self.consumers.items() if c.left}


def is_expired(origin_time: str) -> bool:
    """A letter that old was dropped by its topic, so that it is not there says nothing."""
    age = SystemClock().now() - datetime.fromisoformat(origin_time)
    return age > timedelta(milliseconds=DEAD_LETTER_RETENTION_MS)


async def windows(records: AsyncIterator[Record]) -> AsyncIterator[list[Record]]:
    """Neighbours of the log, up to WINDOW of them and WINDOW_BYTES of values."""
    window, size = list[Record](), 0
    async for record in records:
        window.append(record)
        size += len(record.value or b"")
        if len(window) == WINDOW or size > WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def builder_of(stage: Stage, plan: Plan) -> Builder:
    bootstrap = stage.settings.kafka_address
    written = [topic.name for topic in CATALOGUE if topic.owner == stage.service]
    letters = [source.topic.dead_letter_name for source in plan.inputs]
    builder = Builder(
        stage=stage,
        plan=plan,
        published=Published(Reading(bootstrap, written), Reading(bootstrap, letters)),
        consumers={s.topic.name: consumer_of(stage, s) for phase in plan.phases for s in phase},
        readings=[Reading(bootstrap, [s.topic.name for s in phase]) for phase in plan.phases],
    )
    stage.bus.commits.is_news = builder.is_news
    return builder


def consumer_of(stage: Stage, source: Source) -> ReplayConsumer[Any]:
    return ReplayConsumer(
        topic=source.topic,
        handler=source.handler if isinstance(source, Input) else never,
        service=stage.service,
        database=stage.database,
        commits=stage.bus.commits,
        identity=stage.identity,
        clock=stage.clock,
        telemetry=silent(),
        look_first=False,
        policy=ONE_TRY,
        leaves=source.leaves if isinstance(source, Input) else None,
    )
