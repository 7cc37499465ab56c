"""Rows on PostgreSQL, two processes of a service, and kills of everything, the server included."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import postgres
from tests.faults.lane import LEARNING, Lane
from tests.faults.load import counting
from tests.faults.nursery import Nursery
from tests.faults.rounds import Tally, random_kills, verify
from tests.ports import free_port_base

PLAN = replace(
    LEARNING,
    name="postgres",
    services=("monitor", "inference"),
    replicas=("monitor#2", "inference#2"),
    mix=counting,
    burst=40,
)
SEED = 11

pytestmark = pytest.mark.skipif(postgres.binaries() is None, reason=postgres.MISSING)


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """One of our own, which may be killed."""
    own = postgres.Server(free_port_base())
    yield own
    own.remove()


@pytest.fixture
async def lane(
    server: postgres.Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Lane]:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    seed, rows = random.Random(SEED), postgres.empty_database(server.url)
    async with (
        Nursery(PLAN.services) as nursery,
        Lane(PLAN, tmp_path / "lane", nursery, seed, rows=rows) as one,
    ):
        yield one


@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_kills_of_processes_and_of_the_server_lose_and_double_nothing(
    lane: Lane, server: postgres.Server
) -> None:
    tally = Tally()
    lane.feed(100)
    assert await verify(lane, tally), tally.failures
    for _ in range(2):
        lane.feed(60)
        await asyncio.sleep(lane.seed.uniform(0.2, 0.8))
        await asyncio.to_thread(server.stop)
        await random_kills(lane, tally, 1)
        await asyncio.to_thread(server.start)
        await random_kills(lane, tally, 1)
        assert await verify(lane, tally), tally.failures
    assert await verify(lane, tally, last=True), tally.failures
    assert len(lane.load.accepted) >= 200
