"""A service's door to Kafka: subscriptions in, outbox out, progress as its pulse."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import TopicPartition
from faststream.kafka import KafkaBroker

from tidemill.bus import kafka
from tidemill.bus.consumer import Consumer, Handler
from tidemill.bus.outbox import Relay
from tidemill.bus.policy import RetryPolicy
from tidemill.bus.tables import BusBase
from tidemill.bus.unit import Unit
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.security.tokens import Identity
from tidemill.telemetry import Telemetry
from tidemill.topics import M, Topic

log = structlog.get_logger()

STALL_SECONDS = 30.0
DRAIN_SECONDS = 5.0
CONNECT_RETRY_SECONDS = 0.5


@dataclass
class Bus:
    """Subscribe before start; the outbox relay runs until close."""

    service: str
    bootstrap: str
    database: Database
    identity: Identity
    clock: Clock
    telemetry: Telemetry
    broker: KafkaBroker
    consumers: list[Consumer[Any]] = field(default_factory=list)
    subscribers: list[Any] = field(default_factory=list)
    started: bool = False
    flooded: bool = False

    def __post_init__(self) -> None:
        self.relay = Relay(self.database, self._publish)
        self._tasks: list[asyncio.Task[None]] = []

    async def _publish(self, topic: str, key: bytes, value: bytes, headers: dict[str, str]) -> None:
        await kafka.publish(self.broker, topic, key, value, headers)

    def subscribe(
        self,
        topic: Topic[M],
        handler: Handler[M],
        *,
        timeout: float = 60.0,
        policy: RetryPolicy | None = None,
    ) -> Consumer[M]:
        """Register a handler. timeout: seconds that one attempt may take."""
        consumer = Consumer(
            topic=topic,
            handler=handler,
            service=self.service,
            database=self.database,
            identity=self.identity,
            clock=self.clock,
            telemetry=self.telemetry,
            wake_relay=self.relay.wake,
            timeout=timeout,
            policy=policy or RetryPolicy(),
        )
        self.consumers.append(consumer)
        self.subscribers.append(kafka.subscribe(self.broker, consumer, self._on_flood))
        return consumer

    def _on_flood(self) -> None:
        if not self.flooded:
            self.flooded = True
            log.error("consumers_stopped", reason="DEAD_LETTER_FLOOD")
            self._tasks.append(asyncio.create_task(self._stop_subscribers()))

    async def _stop_subscribers(self) -> None:
        for subscriber in self.subscribers:
            await subscriber.stop()

    @asynccontextmanager
    async def unit(self, tenant_id: str) -> AsyncIterator[Unit]:
        """A transaction outside a delivery; its events leave after the commit."""
        async with self.database.transaction() as session:
            yield Unit(
                session=session,
                source=self.service,
                tenant_id=tenant_id,
                clock=self.clock,
                identity=self.identity,
            )
        self.relay.wake()

    async def start(self) -> None:
        """Connect, waiting for the broker as long as it takes; then consume and relay."""
        while True:
            try:
                await self.broker.start()
                break
            except Exception as error:  # the broker may come later than the service
                log.warning("broker_unreachable", error_type=type(error).__name__)
                with suppress(Exception):
                    await self.broker.stop()
                await asyncio.sleep(CONNECT_RETRY_SECONDS)
        self.started = True
        self._tasks.append(asyncio.create_task(self.relay.run()))

    async def close(self) -> None:
        """Finish the records in hand, then the outbox, within bounds."""
        if self.started:
            await self._stop_subscribers()
            await self.relay.drain(DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.broker.stop()

    async def stalled(self) -> Sequence[str]:
        """Names of consumers that have work but made no progress for STALL_SECONDS."""
        if not self.started:
            return ["bus"]
        pairs = zip(self.consumers, self.subscribers, strict=True)
        return [c.name for c, s in pairs if self._is_stalled(c, s.consumer)]

    def _is_stalled(self, consumer: Consumer[Any], client: Any) -> bool:
        if client is None or self.flooded:
            return True
        now = self.clock.monotonic()
        if consumer.busy_since is not None:
            return now - consumer.busy_since > consumer.timeout + STALL_SECONDS
        waiting = lag_of(client) > 0
        return waiting and now - consumer.last_finished > STALL_SECONDS


def lag_of(client: Any) -> int:
    """Records that are known to wait, by the client's own view of its partitions."""
    lag = 0
    for partition in client.assignment():
        end = client.highwater(partition)
        state = client._subscription.subscription.assignment.state_value(
            TopicPartition(partition.topic, partition.partition)
        )
        if end is not None and state is not None and state.has_valid_position:
            lag += max(0, end - state.position)
    return lag


@asynccontextmanager
async def open_bus(
    service: str,
    bootstrap: str,
    database: Database,
    identity: Identity,
    clock: Clock,
    telemetry: Telemetry,
) -> AsyncIterator[Bus]:
    """A bus whose tables exist; start() is called once the service has subscribed."""
    await database.create_tables(BusBase.metadata)
    broker = kafka.kafka_broker(bootstrap, f"tidemill-{service}")
    bus = Bus(service, bootstrap, database, identity, clock, telemetry, broker)
    try:
        yield bus
    finally:
        await bus.close()
