"""Looks at a service's consumers now and then: what they wait for, how far they are behind."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from tidemill.bus.consumer import Consumer
from tidemill.bus.dispatcher import OrderedDispatcher
from tidemill.bus.outbox import Relay
from tidemill.bus.progress import Progress, Stall, lag_of
from tidemill.clock import Clock
from tidemill.faults import Fault
from tidemill.telemetry import Telemetry, catalogue

log = structlog.get_logger()

EVERY_SECONDS = 5.0
RELAY_FAILING_SECONDS = 30.0

OnStall = Callable[[str, Stall], None]


@dataclass(frozen=True)
class Subscription:
    """A consumer, FastStream's subscriber under it, and what was seen of its progress."""

    consumer: Consumer[Any]
    dispatcher: OrderedDispatcher
    subscriber: Any
    progress: Progress
    # Dependencies that it has waited for.
    awaited: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Watch:
    """on_stall: told once per stretch in which a consumer waits or is behind for too long."""

    subscriptions: Sequence[Subscription]
    relay: Relay
    telemetry: Telemetry
    clock: Clock
    on_stall: OnStall

    async def run(self) -> None:
        while True:
            with suppress(Fault):
                self.telemetry.level(catalogue.OUTBOX_DEPTH, await self.relay.depth())
            for subscription in self.subscriptions:
                await self._look_at(subscription)
            await asyncio.sleep(EVERY_SECONDS)

    async def _look_at(self, subscription: Subscription) -> None:
        client, name = subscription.subscriber.consumer, subscription.consumer.name
        if client is None:
            return
        lag = await lag_of(client)
        self.telemetry.level(catalogue.BROKER_UP, lag is not None)
        subscription.progress.observe(lag)
        if lag is not None:
            self.telemetry.level(catalogue.CONSUMER_LAG, lag, consumer=name)
        self._show_waiting(subscription)
        if (stall := subscription.progress.news()) is not None:
            log.error(
                "consumer_stalled", consumer=name, reason=stall.reason,
                behind=stall.lag, seconds=round(stall.seconds),
            )  # fmt: skip
            self.on_stall(name, stall)

    def _show_waiting(self, subscription: Subscription) -> None:
        """A gauge of a dependency that is back goes to 0."""
        waiting = subscription.progress.dependency()
        seconds = dict.fromkeys(subscription.awaited, 0.0)
        if waiting is not None:
            subscription.awaited.add(waiting.dependency)
            seconds[waiting.dependency] = self.clock.monotonic() - waiting.since
        name = subscription.consumer.name
        for dependency, value in seconds.items():
            self.telemetry.level(
                catalogue.CONSUMER_WAITING, value, consumer=name, dependency=dependency
            )

    def stalled(self) -> set[str]:
        found = {s.consumer.name for s in self.subscriptions if s.progress.stalled()}
        return found | self._stalled_relay()

    def _stalled_relay(self) -> set[str]:
        """A relay that moves nothing for long, or leaves events that the broker refuses."""
        since = self.relay.failing_since
        now = asyncio.get_running_loop().time()
        failing = since is not None and now - since > RELAY_FAILING_SECONDS
        return {"outbox"} if failing or self.relay.refused else set()
