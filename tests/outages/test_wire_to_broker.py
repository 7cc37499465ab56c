"""The wire between a service and its broker: nothing lost, nothing doubled, and work again soon
after it is well."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.core.conftest import producing
from tests.integration.core.parts import effects, recording
from tests.outages.conftest import Wire
from tests.outages.proxy import Proxy, Way
from tests.waiting import eventually as until
from tidemill import topics
from tidemill.bus import UnitOfWork
from tidemill.bus.dead_letters.actions import list_dead_letters
from tidemill.runtime import Runtime

FAULT_SECONDS = 1.0
HEALED_SECONDS = 8.0

Fault = Callable[[Proxy], Awaitable[None]]


async def cuts(proxy: Proxy) -> None:
    for _ in range(5):
        proxy.cut()
        await asyncio.sleep(FAULT_SECONDS / 5)


async def resets(proxy: Proxy) -> None:
    for _ in range(5):
        proxy.reset()
        await asyncio.sleep(FAULT_SECONDS / 5)


def lasting(start: Callable[[Proxy], None]) -> Fault:
    async def fault(proxy: Proxy) -> None:
        start(proxy)
        await asyncio.sleep(FAULT_SECONDS)

    return fault


async def slow_ends(proxy: Proxy) -> None:
    """The clients' ends reach the broker late: it holds on to members that are gone."""
    proxy.slow_close(FAULT_SECONDS)
    await asyncio.sleep(FAULT_SECONDS / 2)


FAULTS: dict[str, Fault] = {
    "cuts": cuts,
    "resets": resets,
    "refused": lasting(lambda proxy: proxy.refuse()),
    "frozen": lasting(lambda proxy: proxy.freeze()),
    "answers frozen": lasting(lambda proxy: proxy.freeze([Way.DOWN])),
    "slow": lasting(lambda proxy: proxy.slow(0.1)),
    "narrow": lasting(lambda proxy: proxy.throttle(20_000)),
    "slow ends": slow_ends,
}


async def send(wire: Wire, name: str, count: int) -> list[str]:
    ids = [f"{name}-{number}".replace(" ", "-") for number in range(count)]
    for number, event_id in enumerate(ids):
        await wire.outside.submit(f"doc-{number % 7}", event_id=event_id)
    return ids


async def settled(runtime: Runtime, ids: list[str]) -> bool:
    return len(await effects(runtime)) >= len(ids) and await runtime.bus.relay.depth() == 0


async def published(wire: Wire) -> list[str]:
    records = await wire.outside.read(topics.DOCUMENTS_CHUNKED.name)
    return [dict(record.headers)["ce_id"].decode() for record in records]


async def through(wire: Wire, runtime: Runtime, name: str, fault: Fault, sent: list[str]) -> None:
    """Sends while the fault lasts; all of it is applied and published soon after its end."""
    sending = asyncio.create_task(send(wire, name, 40))
    await asyncio.sleep(0.05)
    await fault(wire.proxy)
    wire.proxy.heal()
    async with asyncio.timeout(HEALED_SECONDS):
        sent += await sending
        await until(lambda: settled(runtime, sent), HEALED_SECONDS)


def publish_one(unit: UnitOfWork) -> None:
    unit.publish(topics.DOCUMENTS_CHUNKED, "doc", topics.DOCUMENTS_CHUNKED.message())


@pytest.mark.timeout(150)
async def test_every_fault_of_the_wire_leaves_each_event_applied_once(
    wire: Wire, run_service: Any
) -> None:
    sent: list[str] = []
    async with run_service("ingest", wire.outside.settings, recording) as runtime:
        for name, fault in FAULTS.items():
            await through(wire, runtime, name, fault, sent)
        assert sorted(await effects(runtime)) == sorted(sent)
    assert len(set(await published(wire))) == len(sent)
    assert await list_dead_letters(wire.proxy.address) == []


@pytest.mark.timeout(90)
async def test_a_connection_whose_other_side_is_gone_without_a_word_is_given_up(
    wire: Wire, run_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of a request decides; here it is shorter than in earnest."""
    monkeypatch.setattr("tidemill.bus.kafka.REQUEST_MS", 3_000)
    async with run_service("ingest", wire.outside.settings, recording) as runtime:
        sent = await send(wire, "before", 20)
        await until(lambda: settled(runtime, sent), HEALED_SECONDS)
        wire.proxy.half_open()
        await runtime.bus.write("acme", publish_one)
        await asyncio.sleep(1.0)
        wire.proxy.heal()
        async with producing(wire.proxy.address) as producer:
            wire.outside.producer = producer
            sent += await send(wire, "after", 20)
        await until(lambda: settled(runtime, sent), 20)
        assert sorted(await effects(runtime)) == sorted(sent)
    assert len(set(await published(wire))) == len(sent) + 1


@pytest.mark.timeout(90)
async def test_a_service_stops_in_time_while_its_broker_is_silent(
    wire: Wire, run_service: Any
) -> None:
    async with run_service("ingest", wire.outside.settings, recording) as runtime:
        sent = await send(wire, "before", 20)
        await until(lambda: settled(runtime, sent), HEALED_SECONDS)
        wire.proxy.freeze()
        await runtime.bus.write("acme", publish_one)
        await asyncio.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    wire.proxy.heal()
    async with run_service("ingest", wire.outside.settings, recording) as runtime:
        await until(lambda: settled(runtime, sent), HEALED_SECONDS)
    assert len(set(await published(wire))) == len(sent) + 1
