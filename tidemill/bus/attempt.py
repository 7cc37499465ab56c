"""One try of a handler: applied, or why not."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.failures import Failure, failure_of, timer_fired_late
from tidemill.bus.unit import UnitOfWork
from tidemill.faults import Reason
from tidemill.topics import M

log = structlog.get_logger()

Handler = Callable[[M, Delivery], Awaitable[None]]


def nothing(unit: UnitOfWork) -> None:
    """Of an event that changes no rows; its inbox row is written all the same."""


async def attempt(
    handler: Handler[M], message: M, delivery: Delivery, timeout: float
) -> Failure | None:
    """None when the event is applied. timeout: seconds for the whole try.

    Raises AlreadyApplied when it was applied, or given up, by an earlier delivery.
    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            await handler(message, delivery)
            if not delivery.applied:
                await delivery.apply(nothing)
    except AlreadyApplied:
        raise
    except asyncio.CancelledError as error:
        if cancelled_from_outside():
            raise
        return own_failure(delivery, error)
    except Exception as error:
        hung = limit.expired() and not timer_fired_late(limit)
        return own_failure(delivery, error, hung=hung)
    return None


def cancelled_from_outside() -> bool:
    """False when the handler awaited something that was cancelled, which is its own failure."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def own_failure(delivery: Delivery, error: BaseException, *, hung: bool = False) -> Failure | None:
    if delivery.applied:
        # The effects are committed: what failed afterwards must not run again.
        log.error("handler_failed_after_apply", consumer=delivery.consumer, exc_info=error)
        return None
    failure = failure_of(error, hung=hung)
    if failure.fault.reason is Reason.INTERNAL:
        log.error("handler_failed", consumer=delivery.consumer, exc_info=error)
    return failure
