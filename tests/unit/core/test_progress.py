"""A consumer that waits for events is healthy; one that stands before them is not."""

from pathlib import Path
from typing import Any

import pytest

from tidemill import topics
from tidemill.bus.commits import GroupCommit
from tidemill.bus.consumer import Consumer, Waiting
from tidemill.bus.progress import BEHIND_SECONDS, STALL_SECONDS, TOLD_SECONDS, Progress, Stall
from tidemill.telemetry import open_telemetry


async def nothing(message: Any, delivery: Any) -> None:
    """A handler that no test here calls."""


@pytest.fixture
def consumer(database: Any, identity: Any, clock: Any, tmp_path: Path) -> Any:
    with open_telemetry("test", tmp_path, metrics_port=None) as telemetry:
        yield Consumer(
            topic=topics.DOCUMENTS_SUBMITTED,
            handler=nothing,
            service="test",
            database=database,
            identity=identity,
            clock=clock,
            telemetry=telemetry,
            commits=GroupCommit(database, lambda: None),
            timeout=60,
        )


async def test_an_idle_consumer_is_healthy_for_ever(consumer: Any, clock: Any) -> None:
    progress = Progress(consumer, clock)
    for _ in range(100):
        progress.observe(0)
        clock.turn(3600)
        assert not progress.stalled()


async def test_records_that_come_after_a_long_rest_are_no_stall(consumer: Any, clock: Any) -> None:
    progress = Progress(consumer, clock)
    progress.observe(0)
    clock.turn(3600)
    progress.observe(5)
    assert not progress.stalled()


async def test_records_that_nobody_takes_are_a_stall(consumer: Any, clock: Any) -> None:
    progress = Progress(consumer, clock)
    progress.observe(5)
    clock.turn(STALL_SECONDS + 1)
    progress.observe(5)
    assert progress.stalled()
    consumer.finished += 1
    progress.observe(4)
    assert not progress.stalled()


async def test_a_silent_broker_is_not_the_consumers_fault(consumer: Any, clock: Any) -> None:
    progress = Progress(consumer, clock)
    progress.observe(5)
    progress.observe(None)
    clock.turn(STALL_SECONDS + 1)
    assert not progress.stalled()


async def test_waiting_for_a_dependency_is_a_stall_and_told_once(consumer: Any, clock: Any) -> None:
    """With Milvus away every event waited, and health said that all was well."""
    progress = Progress(consumer, clock)
    consumer.waiting["documents.submitted.v1/0/7"] = Waiting(clock.monotonic(), "vector_store")
    progress.observe(5)
    assert (progress.stalled(), progress.news()) == (False, None)
    clock.turn(STALL_SECONDS + 1)
    progress.observe(9)
    assert (progress.stalled(), progress.news()) == (True, None)
    clock.turn(TOLD_SECONDS)
    progress.observe(12)
    assert progress.news() == Stall("DEPENDENCY_UNAVAILABLE", STALL_SECONDS + 1 + TOLD_SECONDS, 12)
    assert progress.news() is None
    consumer.waiting.clear()
    progress.observe(0)
    assert (progress.stalled(), progress.news()) == (False, None)


async def test_a_consumer_that_never_catches_up_is_told(consumer: Any, clock: Any) -> None:
    progress = Progress(consumer, clock)
    for _ in range(3):
        consumer.finished += 1
        progress.observe(100)
        assert progress.news() is None
        clock.turn(BEHIND_SECONDS / 2)
    stall = progress.news()
    assert stall is not None
    assert (stall.reason, stall.lag) == ("CONSUMER_BEHIND", 100)
    assert not progress.stalled()


async def test_a_try_far_beyond_its_time_is_a_stall(consumer: Any, clock: Any) -> None:
    progress = Progress(consumer, clock)
    consumer.idle.clear()
    consumer.pulse = clock.monotonic()
    clock.turn(60 + STALL_SECONDS)
    assert not progress.stalled()
    clock.turn(1)
    assert progress.stalled()
