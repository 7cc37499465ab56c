"""The document path dies at chosen calls and random moments, vector store included, and is whole.

The long form is `make faults`.
"""

import logging
import math
import random
import time
from pathlib import Path

import pytest

from tests.faults.lane import DOCUMENTS, Lane
from tests.faults.nursery import Nursery, missing_tools
from tests.faults.rounds import Sweep, Tally, random_kills, verify
from tests.integration.triton_process import Triton

SEED = 9
CHAIN_SECONDS = 3.0


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(bool(missing_tools()), reason=missing_tools())
async def test_deaths_of_the_document_path_lose_and_double_nothing(
    triton: Triton, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    tally = Tally()
    async with (
        Nursery(DOCUMENTS.services) as nursery,
        Lane(DOCUMENTS, tmp_path, nursery, random.Random(SEED), triton.address) as lane,
    ):
        sweep = Sweep(lane, tally)
        await sweep.prepare(("ingest", "embedder", "retriever"))
        for role in DOCUMENTS.services:
            # On a busy machine one point each must do.
            await sweep.chain(role, math.inf, 1)
            await sweep.chain(role, time.monotonic() + CHAIN_SECONDS, 3)
        await random_kills(lane, tally, 2)
        assert await verify(lane, tally, last=True), tally.failures
    assert tally.kill_points >= 2, tally
