"""One try of a handler, and what its failure means."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tidemill.bus.delivery import AlreadyApplied, Delivery
from tidemill.bus.policy import Failure, Kind
from tidemill.db.rivals import MOST_LOST, after_loss, is_rival
from tidemill.faults import Fault, Reason, faults_in
from tidemill.topics import M

log = structlog.get_logger()

LATE_SECONDS = 1.0

Handler = Callable[[M, Delivery], Awaitable[None]]


async def attempt(
    handler: Handler[M], message: M, delivery: Delivery, timeout: float
) -> Failure | None:
    """None when the event is applied, now or earlier. timeout: seconds for the whole try; it begins
    anew when the transaction lost a race, which is nobody's failure."""
    for lost in range(1, MOST_LOST + 1):
        failure = await attempt_once(handler, message, delivery, timeout)
        if failure is None or not is_rival(failure.fault):
            return failure
        await after_loss(lost)
    return await attempt_once(handler, message, delivery, timeout)


async def attempt_once(
    handler: Handler[M], message: M, delivery: Delivery, timeout: float
) -> Failure | None:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            await handler(message, delivery)
            if not delivery.applied:
                async with delivery.apply():
                    pass
    except AlreadyApplied:
        return None
    except asyncio.CancelledError:
        if cancelled_from_outside():
            raise
        return own_failure(delivery, asyncio.CancelledError())
    except Exception as error:
        return own_failure(delivery, error, hung=limit.expired() and not stood_still(limit))
    return None


def stood_still(limit: asyncio.Timeout) -> bool:
    """Whether the timeout came late, as it does for a process that was frozen or got no processor:
    then it says nothing about the handler."""
    return asyncio.get_running_loop().time() - (limit.when() or 0.0) > LATE_SECONDS


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


def failure_of(error: BaseException, *, hung: bool = False) -> Failure:
    """A fault as the handler raised it; a hang or a bug is the handler's own and tried few times.

    A hang must not count as a dependency's: one document that never ends would hold its
    neighbours for as long as an outage may last.
    """
    faults = list(faults_in(error))
    if faults:
        fault = next((f for f in faults if not f.retryable), faults[0])
        return Failure(fault, Kind.DEPENDENCY if fault.retryable else Kind.FINAL)
    if isinstance(error, TimeoutError):
        return Failure(
            Fault(Reason.DEADLINE_EXCEEDED, by="handler"), Kind.HANG if hung else Kind.OWN
        )
    return Failure(Fault(Reason.INTERNAL, error_type=type(error).__name__), Kind.OWN)
