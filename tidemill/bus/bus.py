"""A service's door to Kafka: subscriptions in, outbox out, progress as its pulse."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from faststream.kafka import KafkaBroker
from sqlalchemy.orm import Session

from tidemill.backoff import Backoff
from tidemill.bus import inbox, kafka
from tidemill.bus.admin import create_topics
from tidemill.bus.attempt import Handler
from tidemill.bus.commits import GroupCommit
from tidemill.bus.consumer import Consumer
from tidemill.bus.dead_letters.stopping import (
    DEAD_LETTER_LIMIT_EXCEEDED,
    EVENT_REFUSED,
    stopped_message,
    tell_stopped,
)
from tidemill.bus.dispatcher import MAX_CONCURRENCY, OrderedDispatcher
from tidemill.bus.envelope import TOKEN, split_key
from tidemill.bus.failures import DlqCircuitBreaker, NoBreaker, RetryPolicy, Trip
from tidemill.bus.goodbye import say_goodbye
from tidemill.bus.migrations import MIGRATIONS
from tidemill.bus.outbox import Outgoing, Relay
from tidemill.bus.progress import Progress, Stall
from tidemill.bus.unit import UnitOfWork
from tidemill.bus.watch import Subscription, Watch
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
INBOX_KEPT = timedelta(days=35)
FORGET_EVERY_SECONDS = 3_600.0
FORGOTTEN = 2_000
"""Rows in one transaction."""

T = TypeVar("T")


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
        self.relay = Relay(database, self._enqueue, self._on_refused)
        self.commits = GroupCommit(database, self.relay.wake)
        self._identity = identity
        self._clock = clock
        self._telemetry = telemetry
        self._session_ms = session_ms
        self._flood_brake = flood_brake
        self._broker: KafkaBroker = kafka.kafka_broker(bootstrap, f"tidemill-{service}")
        self._subscriptions: list[Subscription] = []
        self._watch = Watch(self._subscriptions, self.relay, telemetry, clock, self._tell_stall)
        self._tasks: list[asyncio.Task[None]] = []
        self._relaying: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._stopping = asyncio.Event()
        self._left = False
        self._tripped: set[str] = set()
        self._scopes = {topic.name: topic.write_scope for topic in CATALOGUE}

    def subscribe(
        self,
        topic: Topic[M],
        handler: Handler[M],
        *,
        timeout: float = 60.0,
        batch: int = 1,
        max_concurrency: int = MAX_CONCURRENCY,
        look_first: bool = True,
        submissions: bool = False,
        policy: RetryPolicy | None = None,
    ) -> Consumer[M]:
        """Register a handler. timeout: seconds that one try may take. batch: how many events that
        have arrived are begun together and share a transaction; for handlers without slow work.
        max_concurrency: how many may be in hand while one of them is in trouble; 1 for work that
        must not run twice at a time. look_first, submissions: see Consumer."""
        consumer = Consumer(
            topic=topic,
            handler=handler,
            service=self.service,
            database=self.database,
            commits=self.commits,
            identity=self._identity,
            clock=self._clock,
            telemetry=self._telemetry,
            timeout=timeout,
            look_first=look_first,
            submissions=submissions,
            policy=policy or RetryPolicy(),
            breaker=DlqCircuitBreaker() if self._flood_brake else NoBreaker(),
            stopping=self._stopping,
        )
        self._attach(consumer, batch, max_concurrency)
        return consumer

    def _attach(self, consumer: Consumer[Any], batch: int, max_concurrency: int) -> None:
        dispatcher = OrderedDispatcher(
            consumer,
            lambda: self._on_trip(consumer),
            batch=batch,
            max_concurrency=max_concurrency,
        )
        subscriber = kafka.subscribe(self._broker, consumer, dispatcher, self._session_ms)
        progress = Progress(consumer, self._clock)
        self._subscriptions.append(Subscription(consumer, dispatcher, subscriber, progress))

    async def write(self, tenant_id: str, work: Callable[[UnitOfWork], T]) -> T:
        """What the work returns, once its transaction, which belongs to no delivery, is committed;
        its events leave then. The work is a plain function, run in a database thread."""

        def unit(session: Session) -> UnitOfWork:
            return UnitOfWork(session, self.service, tenant_id, self._clock)

        return await self.commits.apply(work, unit)

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
        self._spawn(self._watch.run())
        self._spawn(self._forget_done())
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

    async def _enqueue(self, row: Outgoing) -> "asyncio.Future[Any]":
        """Topics that outsiders write to want a token from everyone. It is made at the last
        moment: an event may wait in the outbox for longer than a token should live."""
        headers = json.loads(row.headers)
        scope = self._scopes.get(row.topic)
        if scope:
            tenant, _ = split_key(row.key)
            headers[TOKEN] = self._identity.mint(tenant, [scope], audience=EVENT_AUDIENCE)
        return await kafka.enqueue(self._broker, row.topic, row.key, row.value, headers)

    def _on_trip(self, consumer: Consumer[Any]) -> None:
        trip = consumer.breaker.trip
        if trip is None or consumer.name in self._tripped:
            return
        self._tripped.add(consumer.name)
        log.error("consumer_stopped", consumer=consumer.name, reason=DEAD_LETTER_LIMIT_EXCEEDED)
        self._telemetry.level(catalogue.CONSUMER_STOPPED, 1, consumer=consumer.name)
        found = [s for s in self._subscriptions if s.consumer is consumer]
        self._spawn(found[0].subscriber.stop())
        message = stopped_message(
            consumer.name, DEAD_LETTER_LIMIT_EXCEEDED, trip, self._clock.now()
        )
        self._spawn(tell_stopped(self.write, message))

    def _on_refused(self, row: Outgoing, reason: str) -> None:
        """Somebody has to look: the events of its key wait until the broker takes it."""
        name = f"{self.service}/outbox/{row.topic}"
        trip = Trip(1.0, 0.0, f"refused: {reason}")
        self._tell_stopped(name, EVENT_REFUSED, trip, self._clock.now())

    def _tell_stall(self, name: str, stall: Stall) -> None:
        since = self._clock.now() - timedelta(seconds=stall.seconds)
        trip = Trip(float(stall.lag), 0.0, "events_behind")
        self._tell_stopped(name, stall.reason, trip, since)

    def _tell_stopped(self, name: str, reason: str, trip: Trip, since: datetime) -> None:
        self._spawn(tell_stopped(self.write, stopped_message(name, reason, trip, since)))

    async def _forget_done(self) -> None:
        """Drop inbox rows that are older than any dead letter and any producer's retry. An event
        that comes again later meets handlers that know it by its own key."""
        while True:
            with suppress(Fault):
                forget = partial(
                    inbox.forget, before=self._clock.now() - INBOX_KEPT, most=FORGOTTEN
                )
                more = True
                while more:
                    more = await self.database.write(forget) >= FORGOTTEN
            await asyncio.sleep(FORGET_EVERY_SECONDS)

    async def stalled(self) -> Sequence[str]:
        """Consumers that have work but make no progress or stopped by themselves, and the outbox
        when its events do not leave; "bus" before the first connection."""
        if not self._connected.is_set():
            return ["bus"]
        return sorted(self._watch.stalled() | self._tripped)

    async def stop_consuming(self) -> None:
        """Finish the records in hand or hand them back, then leave; both within bounds."""
        self._stopping.set()
        if self._left or not self._connected.is_set():
            return
        self._left = True
        drains = [s.dispatcher.drain(kafka.STOP_SECONDS) for s in self._subscriptions]
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
