"""Tells the mesh that a consumer stopped by itself; monitor makes an alert of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from tidemill.api.events.v1 import ConsumerStopped
from tidemill.bus.failures import Trip
from tidemill.bus.unit import UnitOfWork
from tidemill.faults import Fault
from tidemill.security.tokens import MESH_TENANT
from tidemill.topics import CONSUMERS_STOPPED

log = structlog.get_logger()

DEAD_LETTER_LIMIT_EXCEEDED = "DEAD_LETTER_LIMIT_EXCEEDED"
EVENT_REFUSED = "EVENT_REFUSED"
RETRY_SECONDS = 5.0

Write = Callable[[str, Callable[[UnitOfWork], str]], Awaitable[str]]


def stopped_message(consumer: str, reason: str, trip: Trip, at: datetime) -> ConsumerStopped:
    message = ConsumerStopped(
        consumer=consumer,
        reason=reason,
        measured=trip.measured,
        limit=trip.limit,
        unit=trip.unit,
    )
    message.stopped_time.FromDatetime(at)
    return message


async def tell_stopped(write: Write, message: ConsumerStopped) -> None:
    """Publish it, however long rows are out of reach. A process that ends before has no consumer
    that is stopped: the next one begins with its circuit breaker closed."""
    while True:
        try:
            await write(
                MESH_TENANT,
                lambda unit: unit.publish(CONSUMERS_STOPPED, message.consumer, message),
            )
            return
        except Fault as storage:
            log.warning("stop_not_told", consumer=message.consumer, reason=storage.reason.value)
            await asyncio.sleep(RETRY_SECONDS)
