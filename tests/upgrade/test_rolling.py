"""A mesh goes from the release before to this one and back, one service at a time, while events
come in: none is lost, doubled or dead-lettered."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.migrate import migrate
from tests.faults.lane import BROKER, LEARNING, Lane, Plan
from tests.faults.load import Mix, counting, documents, learning
from tests.faults.nursery import Nursery
from tests.upgrade.releases import ROOT, Release, code_of, is_in_history
from tidemill.api.monitor.v1 import GetUsageRequest, MonitorServiceStub
from tidemill.bus.admin import create_topics
from tidemill.clock import SystemClock
from tidemill.db.migrations import HEAD
from tidemill.faults import Fault
from tidemill.rpc import Channels, call
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity

BURST = 40
CALL_SECONDS = 15.0
"""Until when a call is answered, while its only process is replaced."""
LEARNING_SERVICES = replace(LEARNING, name="upgrade", mix=counting)
INGEST = Plan("documents", ("ingest", "retriever"), documents, BURST)

pytestmark = [
    pytest.mark.skipif(not is_in_history(), reason="the history lacks the release before"),
    pytest.mark.timeout(300),
]


@dataclass
class Street:
    """A lane whose services run from either release."""

    lane: Lane
    old: Nursery
    new: Nursery

    async def prepare(self) -> None:
        """What is done before the first service is replaced: tables and topics of the new release,
        under the services of the old."""
        for service in self.lane.plan.services:
            await migrate(service, self.lane.settings, HEAD)
        await create_topics(self.lane.settings.kafka_address)

    async def call(self, answered: list[float]) -> None:
        """What a caller does all the while, with the retries of a call that may be repeated."""
        clock, channels = SystemClock(), Channels(self.lane.settings)
        identity = Identity(load_or_create_key(self.lane.settings.home / "keys"), "user", clock)
        stub = MonitorServiceStub(channels.to("monitor"))
        try:
            while True:
                started, token = clock.monotonic(), identity.mint("harbor", ["alerts:read"])
                await asked(stub, token)
                answered.append(clock.monotonic() - started)
                await asyncio.sleep(0.05)
        finally:
            await channels.close()

    async def roll(self, to: Nursery, mix: Mix) -> None:
        """One service after the other, with events before, while and after each is away."""
        self.lane.load.mix, self.lane.nursery = mix, to
        for role in self.lane.plan.roles:
            burst = self.lane.feed(BURST)
            await self.lane.children[role].stop()
            await self.lane.start(role)
            await burst
        await self.lane.check(fresh=True)


async def asked(stub: MonitorServiceStub, token: str) -> None:
    async with asyncio.timeout(CALL_SECONDS):
        while True:
            try:
                await call(stub.GetUsage, GetUsageRequest(), token=token, timeout=CALL_SECONDS)
            except Fault as fault:
                if not fault.retryable:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


async def street(plan: Plan, previous: Release, folder: Path) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        nurseries = [
            await stack.enter_async_context(Nursery((*plan.services, BROKER), **where))
            for where in ({"python": previous.python, "root": previous.root}, {})
        ]
        lane = Lane(plan, folder / "lane", nurseries[0], random.Random(7))
        yield Street(await stack.enter_async_context(lane), *nurseries)


@pytest.fixture
async def learning_street(
    previous: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Street]:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    async for one in street(LEARNING_SERVICES, previous, tmp_path):
        yield one


@pytest.fixture
async def ingest_street(
    previous: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Street]:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    async for one in street(INGEST, previous, tmp_path):
        yield one


def test_the_code_of_the_release_before_is_what_runs(previous: Release) -> None:
    assert code_of(previous) == previous.root != ROOT


async def test_those_who_learn_go_forth_and_back(learning_street: Street) -> None:
    lane, answered = learning_street.lane, list[float]()
    await lane.feed(BURST)
    await learning_street.prepare()
    calling = asyncio.create_task(learning_street.call(answered))
    await learning_street.roll(learning_street.new, learning)
    # The release before does not know the topic on which outsiders submit feedback.
    await learning_street.roll(learning_street.old, counting)
    report = await lane.check(fresh=True)
    assert not calling.done(), calling.exception()
    calling.cancel()
    assert len(answered) > 50
    assert report.acked == report.applied > 10 * BURST


async def test_those_who_take_documents_go_forth_and_back(ingest_street: Street) -> None:
    lane = ingest_street.lane
    await lane.feed(BURST)
    await ingest_street.prepare()
    await ingest_street.roll(ingest_street.new, documents)
    await ingest_street.roll(ingest_street.old, documents)
    report = await lane.check(fresh=True)
    assert report.acked == report.applied > 4 * BURST
