"""What a try that takes all its time means: a handler that hangs, or a process that stood still."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tidemill import topics
from tidemill.api.events.v1 import DocumentChunked
from tidemill.bus import Delivery
from tidemill.bus.attempt import attempt
from tidemill.bus.commits import GroupCommit
from tidemill.bus.envelope import Record
from tidemill.bus.failures import LATE_SECONDS, Kind
from tidemill.clock import SystemClock
from tidemill.faults import Reason

TIMEOUT = 0.1


@pytest.fixture
def delivery(database: Any) -> Delivery:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    name = topics.DOCUMENTS_CHUNKED.name
    return Delivery(
        record=Record(name, 0, 0, b"acme/doc", b"", {}, moment),
        consumer=f"test/{name}",
        tenant_id="acme",
        aggregate_id="doc",
        commits=GroupCommit(database, lambda: None),
        clock=SystemClock(),
    )


async def hang(message: Any, delivery: Delivery) -> None:
    await asyncio.Event().wait()


async def stand_still(message: Any, delivery: Delivery) -> None:
    """As under SIGSTOP: the loop does not run while the time passes."""
    time.sleep(TIMEOUT + LATE_SECONDS + 0.2)  # noqa: ASYNC251 - that is the point
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("handler", "kind"), [(hang, Kind.HANG), (stand_still, Kind.HANDLER_ERROR)]
)
async def test_a_try_that_was_frozen_is_not_taken_for_a_handler_that_hangs(
    delivery: Delivery, handler: Any, kind: Kind
) -> None:
    failure = await attempt(handler, DocumentChunked(), delivery, TIMEOUT)
    assert failure is not None
    assert (failure.kind, failure.fault.reason) == (kind, Reason.DEADLINE_EXCEEDED)
