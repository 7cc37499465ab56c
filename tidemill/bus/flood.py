"""Tells the mesh that a consumer stopped by itself; monitor makes an alert of it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime

import structlog

from tidemill.api.events.v1 import ConsumerStopped
from tidemill.bus.policy import Flood
from tidemill.bus.unit import Unit
from tidemill.faults import Fault
from tidemill.security.tokens import MESH_TENANT
from tidemill.topics import CONSUMERS_STOPPED

log = structlog.get_logger()

DEAD_LETTER_LIMIT_EXCEEDED = "DEAD_LETTER_LIMIT_EXCEEDED"
RETRY_SECONDS = 5.0

OpenUnit = Callable[[str], AbstractAsyncContextManager[Unit]]


def stopped_message(consumer: str, flood: Flood, at: datetime) -> ConsumerStopped:
    message = ConsumerStopped(
        consumer=consumer,
        reason=DEAD_LETTER_LIMIT_EXCEEDED,
        measured=flood.measured,
        limit=flood.limit,
        unit=flood.unit,
    )
    message.stopped_time.FromDatetime(at)
    return message


async def tell_stopped(open_unit: OpenUnit, message: ConsumerStopped) -> None:
    """Publish it, however long rows are out of reach. A process that ends before has no consumer
    that is stopped: the next one begins with its brake released."""
    while True:
        try:
            async with open_unit(MESH_TENANT) as unit:
                unit.publish(CONSUMERS_STOPPED, message.consumer, message)
            return
        except Fault as storage:
            log.warning("stop_not_told", consumer=message.consumer, reason=storage.reason.value)
            await asyncio.sleep(RETRY_SECONDS)
