"""The short form: services and broker die at chosen calls and random moments, and all is whole.

The document path has its own in tests/integration/documents; `make faults` is the long form.
"""

import logging
import math
import random
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.lane import LEARNING, Lane
from tests.faults.load import counting
from tests.faults.nursery import Nursery, missing_tools
from tests.faults.rounds import Sweep, Tally, random_kills, verify

SHORT = replace(LEARNING, name="short", services=("monitor", "inference"), mix=counting, burst=20)
SEED = 5
CHAIN_SECONDS = 3.0

needs_strace = pytest.mark.skipif(bool(missing_tools()), reason=missing_tools())


@pytest.fixture
async def lane(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Lane]:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    async with (
        Nursery(SHORT.services) as nursery,
        Lane(SHORT, tmp_path / "lane", nursery, random.Random(SEED)) as one,
    ):
        yield one


@needs_strace
@pytest.mark.timeout(240)
@pytest.mark.slow
async def test_deaths_at_chosen_calls_and_random_moments_lose_and_double_nothing(
    lane: Lane,
) -> None:
    tally = Tally()
    sweep = Sweep(lane, tally)
    await sweep.prepare()
    assert min(tally.possible.values()) > 50, "each of them writes, syncs and sends"
    for role in SHORT.roles:
        # The first is swept in any case; on a busy machine the others take what time is left.
        await sweep.chain(role, math.inf, 1)
        await sweep.chain(role, time.monotonic() + CHAIN_SECONDS, 5)
        await random_kills(lane, tally, 1)
    assert await verify(lane, tally, last=True), tally.failures
    assert tally.kill_points >= 3, tally
    assert tally.sigkills >= 3
    assert len(lane.load.accepted) >= 100


@pytest.mark.timeout(240)
async def test_a_loss_is_found_and_named_with_the_faults_before_it(lane: Lane) -> None:
    tally = Tally()
    await lane.load.burst(40)
    assert await verify(lane, tally), tally.failures
    await random_kills(lane, tally, 1)
    await lane.rest()
    with sqlite3.connect(lane.settings.home / "monitor" / "rows.db", timeout=10) as rows:
        rows.execute("DELETE FROM answers WHERE rowid = (SELECT min(rowid) FROM answers)")
    started = time.monotonic()
    assert not await verify(lane, tally)
    assert time.monotonic() - started < 60
    (failure,) = tally.failures
    assert failure["lost"] == 1
    assert failure["disagreements"][0].startswith("lost: answer of the monitor: ")
    assert failure["faults_since_the_last_good_audit"][0].startswith("SIGKILL of ")
