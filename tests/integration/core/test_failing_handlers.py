"""Handlers that fail: bounded tries for their own faults, patience for a part that is down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.integration.core.parts import Base, effects, record_effect
from tests.tables import create_tables
from tidemill import topics
from tidemill.api.events.v1 import DocumentSubmitted
from tidemill.backoff import Backoff
from tidemill.bus import Delivery
from tidemill.bus.dead_letters.actions import (
    list_dead_letters,
    replay_dead_letters,
    show_dead_letter,
)
from tidemill.bus.failures import RetryPolicy
from tidemill.clock import SystemClock
from tidemill.faults import Fault, Reason
from tidemill.runtime import Runtime
from tidemill.security.keys import load_or_create_key
from tidemill.security.tokens import Identity

QUICK = RetryPolicy(attempts=3, backoff=Backoff(0.01, 0.05), hold_seconds=60)


class Handler:
    """Fails in the way that a document's name says; counts the tries of each."""

    def __init__(self, policy: RetryPolicy = QUICK) -> None:
        self.tries: dict[str, int] = {}
        self.failing = True
        self.policy = policy

    async def __call__(self, message: DocumentSubmitted, delivery: Delivery) -> None:
        name = delivery.aggregate_id
        self.tries[name] = self.tries.get(name, 0) + 1
        if self.failing:
            await self.fail(name)
        await record_effect(message, delivery)

    async def fail(self, name: str) -> None:
        if name == "bug":
            raise ZeroDivisionError("text of a document")
        if name == "refused":
            raise Fault(Reason.DOCUMENT_BROKEN, media_type="application/pdf")
        if name == "hang":
            await asyncio.Event().wait()
        if name == "cancelled":
            raise asyncio.CancelledError
        if name == "triton":
            raise ExceptionGroup("two calls", [Fault(Reason.DEPENDENCY_UNAVAILABLE)])

    @asynccontextmanager
    async def lifespan(self, runtime: Runtime) -> AsyncIterator[None]:
        await create_tables(runtime.database, Base.metadata)
        runtime.bus.subscribe(topics.DOCUMENTS_SUBMITTED, self, timeout=1.0, policy=self.policy)
        yield


def identity_of(outside: Any) -> Identity:
    return Identity(load_or_create_key(outside.settings.home / "keys"), "operator", SystemClock())


async def test_own_failures_are_parked_after_bounded_tries_and_replays_heal_them_once(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler = Handler()
    names = ["bug", "refused", "hang", "cancelled"]
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:
        for name in [*names, "good"]:
            await outside.submit(name, event_id=name)

        async def parked() -> bool:
            return len(await list_dead_letters(outside.bootstrap)) == 4

        await eventually(parked)
        assert handler.tries == {"bug": 3, "refused": 1, "hang": 3, "cancelled": 3, "good": 1}
        letters = {x.event_id: x for x in await list_dead_letters(outside.bootstrap)}
        assert {name: letter.reason for name, letter in letters.items()} == {
            "bug": "INTERNAL",
            "refused": "DOCUMENT_BROKEN",
            "hang": "DEADLINE_EXCEEDED",
            "cancelled": "INTERNAL",
        }
        assert letters["refused"].detail == '{"media_type": "application/pdf"}'
        assert letters["bug"].consumer == "ingest/documents.submitted.v1"

        handler.failing = False
        report = await replay_dead_letters(outside.bootstrap, identity_of(outside))
        assert {x.event_id for x in report.replayed} == set(names)

        async def healed() -> bool:
            return sorted(await effects(runtime)) == sorted([*names, "good"])

        await eventually(healed)
        again = await replay_dead_letters(outside.bootstrap, identity_of(outside))
        assert (len(again.replayed), len(again.settled)) == (0, 4)
        one = letters["bug"].letter_id
        forced = await replay_dead_letters(outside.bootstrap, identity_of(outside), letter_id=one)
        assert [x.letter_id for x in forced.replayed] == [one]
        await outside.submit("marker", event_id="marker")

        async def passed() -> bool:
            return "marker" in await effects(runtime)

        await eventually(passed)
        assert sorted(await effects(runtime)) == sorted([*names, "good", "marker"])


async def test_a_replay_that_fails_again_can_be_replayed_again(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler = Handler()
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:
        await outside.submit("refused", event_id="one")
        for deaths in (1, 2, 3):

            async def died(deaths: int = deaths) -> bool:
                return len(await list_dead_letters(outside.bootstrap)) == deaths

            await eventually(died)
            handler.failing = deaths < 3
            report = await replay_dead_letters(outside.bootstrap, identity_of(outside))
            assert [x.replay for x in report.replayed] == [deaths - 1]

        async def healed() -> bool:
            return await effects(runtime) == ["one"]

        await eventually(healed)


async def test_letters_can_be_chosen_by_reason_and_shown_with_their_event(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler = Handler()
    async with run_service("ingest", outside.settings, handler.lifespan):
        await outside.submit("refused", event_id="one")
        await outside.submit("bug", event_id="two")
        await outside.submit("doc", event_id="three", tidemill_token="forged")

        async def parked() -> bool:
            return len(await list_dead_letters(outside.bootstrap)) == 3

        await eventually(parked)
        letters = await list_dead_letters(outside.bootstrap, "documents.submitted.v1")
        content = await show_dead_letter(outside.bootstrap, letters[0].letter_id)
        assert (content.letter, content.value) == (letters[0], b"")
        report = await replay_dead_letters(
            outside.bootstrap, identity_of(outside), reason="DOCUMENT_BROKEN"
        )
        assert [x.event_id for x in report.replayed] == ["one"]
        report = await replay_dead_letters(
            outside.bootstrap, identity_of(outside), reason="TOKEN_INVALID"
        )
        assert (len(report.replayed), [x.event_id for x in report.refused]) == (0, ["three"])


async def test_an_event_is_held_while_a_part_is_down_and_applied_when_it_returns(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler = Handler()
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:
        await outside.submit("triton", event_id="one")

        async def tried_often() -> bool:
            return handler.tries.get("triton", 0) > 3 * QUICK.attempts

        await eventually(tried_often)
        handler.failing = False

        async def applied() -> bool:
            return await effects(runtime) == ["one"]

        await eventually(applied)
    assert await list_dead_letters(outside.bootstrap) == []


async def test_an_event_is_parked_when_a_part_stays_down_for_too_long(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler = Handler(RetryPolicy(backoff=Backoff(0.01, 15.0), hold_seconds=0.2))
    async with run_service("ingest", outside.settings, handler.lifespan):
        await outside.submit("triton", event_id="one")

        async def parked() -> bool:
            return len(await list_dead_letters(outside.bootstrap)) == 1

        await eventually(parked)


async def test_a_held_event_is_handed_back_at_once_when_the_service_stops(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    patient = RetryPolicy(backoff=Backoff(30, 30, draw=lambda: 1.0), hold_seconds=600)
    handler = Handler(patient)
    clock = SystemClock()
    async with run_service("ingest", outside.settings, handler.lifespan):
        await outside.submit("triton", event_id="one")

        async def tried() -> bool:
            return handler.tries.get("triton", 0) == 1

        await eventually(tried)
        stopping = clock.monotonic()
    assert clock.monotonic() - stopping < 8
    handler.failing = False
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:

        async def applied() -> bool:
            return await effects(runtime) == ["one"]

        await eventually(applied)
    assert await list_dead_letters(outside.bootstrap) == []


async def test_a_flood_of_dead_letters_stops_the_consumer_and_its_health(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler = Handler()
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:
        for number in range(130):
            await outside.submit("refused", event_id=f"event-{number}")

        async def stopped() -> bool:
            return bool(await runtime.bus.stalled())

        await eventually(stopped)
        assert await runtime.bus.stalled() == ["ingest/documents.submitted.v1"]
    assert len(await outside.read("documents.submitted.v1.dlq")) == 100
    handler.failing = False
    async with run_service("ingest", outside.settings, handler.lifespan) as runtime:

        async def rest_applied() -> bool:
            return len(await effects(runtime)) == 30

        await eventually(rest_applied)


async def test_waiting_for_a_part_uses_up_none_of_the_handlers_own_tries(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    class Both(Handler):
        async def fail(self, name: str) -> None:
            if self.tries[name] <= 5:
                raise Fault(Reason.DEPENDENCY_UNAVAILABLE)
            if self.tries[name] <= 7:
                raise ZeroDivisionError

    async with run_service("ingest", outside.settings, Both().lifespan) as runtime:
        await outside.submit("doc", event_id="one")

        async def applied() -> bool:
            return await effects(runtime) == ["one"]

        await eventually(applied)
