"""A service's door to Kafka: subscriptions in, outbox out, progress as its pulse."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from faststream.kafka import KafkaBroker

from tidemill.backoff import Backoff
from tidemill.bus import kafka
from tidemill.bus.admin import create_topics
from tidemill.bus.attempt import Handler
from tidemill.bus.consumer import Consumer
from tidemill.bus.envelope import TOKEN, split_key
from tidemill.bus.flood import DEAD_LETTER_LIMIT_EXCEEDED, stopped_message, tell_stopped
from tidemill.bus.goodbye import say_goodbye
from tidemill.bus.line import BESIDE, Line
from tidemill.bus.migrations import MIGRATIONS
from tidemill.bus.outbox import Relay
from tidemill.bus.policy import FloodBrake, NoBrake, RetryPolicy
from tidemill.bus.progress import Progress, lag_of
from tidemill.bus.tables import OutboxRow
from tidemill.bus.unit import Unit
from tidemill.clock import Clock
from tidemill.db import Database
from tidemill.faults import Fault
from tidemill.security.tokens import EVENT_AUDIENCE, Identity
from tidemill.telemetry import Telemetry, catalogue
from tidemill.topics import CATALOGUE, M, Topic

log = structlog.get_logger()

# A service is gone 10 seconds after it was told to stop, whatever its broker does: consumers end
# beside the RPCs, then the outbox drains, then the broker is told goodbye.
LEAVE_SECONDS = 1.5
DRAIN_SECONDS = 1.5
CONNECT_BACKOFF = Backoff(0.5, 2.0)
PROBE_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Subscription:
    """A consumer, FastStream's subscriber under it, and what was seen of its progress."""

    consumer: Consumer[Any]
    line: Line
    subscriber: Any
    progress: Progress


class Bus:
    """Subscribe before start; the outbox relay runs until close."""

    def __init__(
        self,
        service: str,
        bootstrap: str,
        database: Database,
        identity: Identity,
        clock: Clock,
        telemetry: Telemetry,
        session_ms: int = kafka.SESSION_MS,
        flood_brake: bool = True,
    ) -> None:
        self.service = service
        self.bootstrap = bootstrap
        self.database = database
        self.relay = Relay(database, self._enqueue)
        self._identity = identity
        self._clock = clock
        self._telemetry = telemetry
        self._session_ms = session_ms
        self._flood_brake = flood_brake
        self._broker: KafkaBroker = kafka.kafka_broker(bootstrap, f"tidemill-{service}")
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._relaying: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._stopping = asyncio.Event()
        self._flooded: set[str] = set()
        self._scopes = {topic.name: topic.write_scope for topic in CATALOGUE}

    def subscribe(
        self,
        topic: Topic[M],
        handler: Handler[M],
        *,
        timeout: float = 60.0,
        beside: int = BESIDE,
        policy: RetryPolicy | None = None,
    ) -> Consumer[M]:
        """Register a handler. timeout: seconds that one try may take. beside: how many records of
        other keys may be in hand beside one in trouble; 0 for work that must not run twice at a
        time."""
        consumer = Consumer(
            topic=topic,
            handler=handler,
            service=self.service,
            database=self.database,
            identity=self._identity,
            clock=self._clock,
            telemetry=self._telemetry,
            wake_relay=self.relay.wake,
            timeout=timeout,
            policy=policy or RetryPolicy(),
            brake=FloodBrake() if self._flood_brake else NoBrake(),
            stopping=self._stopping,
        )
        line = Line(consumer, beside, lambda: self._on_flood(consumer))
        subscriber = kafka.subscribe(self._broker, consumer, line, self._session_ms)
        progress = Progress(consumer, self._clock)
        self._subscriptions.append(Subscription(consumer, line, subscriber, progress))
        return consumer

    @asynccontextmanager
    async def unit(self, tenant_id: str) -> AsyncIterator[Unit]:
        """A transaction outside a delivery; its events leave after the commit."""
        async with self.database.transaction() as session:
            yield Unit(session=session, source=self.service, tenant_id=tenant_id, clock=self._clock)
        self.relay.wake()

    def start(self) -> None:
        """Connect in the background, waiting for the broker as long as it takes; then consume and
        relay."""
        self._spawn(self._run())

    async def ready(self) -> None:
        """Returns once connected and subscribed."""
        await self._connected.wait()

    async def _run(self) -> None:
        failures = 0
        while not await self._connect():
            failures += 1
            await asyncio.sleep(CONNECT_BACKOFF.delay(failures))
        self._spawn(self._probe())
        self._relaying = asyncio.create_task(self.relay.run())
        self._connected.set()
        log.info("bus_connected", consumers=len(self._subscriptions))

    async def _connect(self) -> bool:
        try:
            # A topic that comes after its consumer would be noticed minutes later.
            await create_topics(self.bootstrap)
            await self._broker.start()
        except Exception as error:  # the broker may come later than the service
            reason = error.reason.value if isinstance(error, Fault) else type(error).__name__
            log.warning("broker_unreachable", reason=reason)
            with suppress(Exception):
                await self._broker.stop()
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _enqueue(self, row: OutboxRow) -> "asyncio.Future[Any]":
        """Topics that outsiders write to want a token from everyone. It is made at the last
        moment: an event may wait in the outbox for longer than a token should live."""
        headers = json.loads(row.headers)
        scope = self._scopes.get(row.topic)
        if scope:
            tenant, _ = split_key(row.key)
            headers[TOKEN] = self._identity.mint(tenant, [scope], audience=EVENT_AUDIENCE)
        return await kafka.enqueue(self._broker, row.topic, row.key, row.value, headers)

    def _on_flood(self, consumer: Consumer[Any]) -> None:
        flood = consumer.brake.flood
        if flood is None or consumer.name in self._flooded:
            return
        self._flooded.add(consumer.name)
        log.error("consumer_stopped", consumer=consumer.name, reason=DEAD_LETTER_LIMIT_EXCEEDED)
        self._telemetry.level(catalogue.CONSUMER_STOPPED, 1, consumer=consumer.name)
        found = [s for s in self._subscriptions if s.consumer is consumer]
        self._spawn(found[0].subscriber.stop())
        message = stopped_message(consumer.name, flood, self._clock.now())
        self._spawn(tell_stopped(self.unit, message))

    async def _probe(self) -> None:
        while True:
            with suppress(Fault):
                self._telemetry.level(catalogue.OUTBOX_DEPTH, await self.relay.depth())
            for subscription in self._subscriptions:
                await self._probe_one(subscription)
            await asyncio.sleep(PROBE_EVERY_SECONDS)

    async def _probe_one(self, subscription: Subscription) -> None:
        client = subscription.subscriber.consumer
        if client is None:
            return
        lag = await lag_of(client)
        self._telemetry.level(catalogue.BROKER_UP, lag is not None)
        subscription.progress.observe(lag)
        if lag is not None:
            name = subscription.consumer.name
            self._telemetry.level(catalogue.CONSUMER_LAG, lag, consumer=name)

    async def stalled(self) -> Sequence[str]:
        """Consumers that have work but make no progress or stopped by themselves; "bus" before
        the first connection."""
        if not self._connected.is_set():
            return ["bus"]
        stalled = {s.consumer.name for s in self._subscriptions if s.progress.stalled()}
        return sorted(stalled | self._flooded)

    async def stop_consuming(self) -> None:
        """Finish the records in hand or hand them back, then leave; both within bounds."""
        self._stopping.set()
        if not self._connected.is_set():
            return
        drains = [s.line.drain(kafka.STOP_SECONDS) for s in self._subscriptions]
        await asyncio.gather(*drains)
        stops = [s.subscriber.stop() for s in self._subscriptions]
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                # A broker that is silent lets nobody leave its group.
                await asyncio.gather(*stops, return_exceptions=True)
                # FastStream cancels what is left without waiting for it to clean up.
                for subscription in self._subscriptions:
                    await subscription.consumer.idle.wait()

    async def close(self) -> None:
        """Stop consuming, then publish what the outbox holds, within bounds."""
        await self.stop_consuming()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._drain()
        self._connected.clear()
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        """The producer would wait for what it holds, which the outbox holds too."""
        if not await say_goodbye(self._broker):
            log.warning("broker_left_without_goodbye")

    async def _drain(self) -> None:
        if self._relaying is None:
            return
        self.relay.close()
        _, late = await asyncio.wait([self._relaying], timeout=DRAIN_SECONDS)
        for task in late:
            log.warning("outbox_not_drained")
            task.cancel()
        await asyncio.gather(self._relaying, return_exceptions=True)


@asynccontextmanager
async def open_bus(
    service: str,
    bootstrap: str,
    database: Database,
    identity: Identity,
    clock: Clock,
    telemetry: Telemetry,
    session_ms: int = kafka.SESSION_MS,
    flood_brake: bool = True,
) -> AsyncIterator[Bus]:
    """A bus whose tables exist; start() is called once the service has subscribed.

    session_ms: how long a killed member keeps its partitions. flood_brake: False lets consumers
    park without end.
    """
    await database.expect(MIGRATIONS)
    bus = Bus(service, bootstrap, database, identity, clock, telemetry, session_ms, flood_brake)
    try:
        yield bus
    finally:
        await bus.close()
