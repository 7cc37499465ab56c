"""Any sequence of deaths, replays, drops and crashes between them leaves one effect or none."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.integration.core.parts import Effect
from tests.poison.house import TOPIC, House, open_house
from tidemill.bus.dead_letters import actions as dead_letters
from tidemill.bus.dead_letters.actions import (
    drop_dead_letters,
    list_dead_letters,
    replay_dead_letters,
)
from tidemill.bus.dead_letters.status import REPLAYED, State
from tidemill.faults import Fault, Reason

EXAMPLES = int(os.environ.get("TIDEMILL_TEST_EXAMPLES", "8"))
STEPS = ("submit", "deliver", "deliver again", "fix", "break", "replay", "replay one", "drop")
SEQUENCES = st.lists(st.sampled_from([*STEPS, "replay, killed before its mark"]), max_size=14)


async def effects_of(house: House) -> list[str]:
    async with house.database.session() as session:
        return list((await session.scalars(select(Effect.event_id))).all())


async def replay(house: House, dropped: set[str], letter_id: str | None = None) -> None:
    report = await replay_dead_letters(
        house.bootstrap, house.identity, topic=TOPIC.name, letter_id=letter_id
    )
    events = {letter.event_id for letter in report.replayed}
    if letter_id is None:
        assert not events & dropped, "a filter replayed a dropped letter"
    dropped -= events


async def drop(house: House, dropped: set[str]) -> None:
    report = await drop_dead_letters(house.bootstrap, by="me", why="a test", topic=TOPIC.name)
    dropped |= {letter.event_id for letter in report.dropped}


async def step(house: House, name: str, sent: list[str], dropped: set[str]) -> None:
    letters = await list_dead_letters(house.bootstrap, TOPIC.name)
    match name:
        case "submit":
            sent.append(f"event-{len(sent)}")
            await house.submit(sent[-1])
        case "deliver":
            await house.deliver()
        case "deliver again":
            await house.deliver(again=3)
        case "fix":
            house.broken = False
        case "break":
            house.broken = True
        case "replay":
            await replay(house, dropped)
        case "replay one" if letters:
            await replay(house, dropped, letters[0].letter_id)
        case "drop":
            await drop(house, dropped)
        case "replay, killed before its mark":
            await replay_without_mark(house, dropped)


async def replay_without_mark(house: House, dropped: set[str]) -> None:
    """The process ends after the event was sent again and before the mark of it."""
    send = dead_letters.send

    async def killed(producer: Any, topic: str, key: bytes, value: Any, headers: Any) -> None:
        if REPLAYED in headers:
            raise Fault(Reason.DEPENDENCY_UNAVAILABLE)
        await send(producer, topic, key, value, headers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dead_letters, "send", killed)
        try:
            await replay(house, dropped)
        except Fault:
            return


async def live_through(folder: Path, names: list[str]) -> None:
    sent, dropped = list[str](), set[str]()
    async with open_house(folder) as house:
        for name in names:
            await step(house, name, sent, dropped)
            applied = await effects_of(house)
            assert len(applied) == len(set(applied)), "an event had its effect twice"
        await house.deliver()
        house.broken = False
        await replay(house, dropped)
        await house.deliver(again=5)
        await check_end(house, sent, dropped)


async def check_end(house: House, sent: list[str], dropped: set[str]) -> None:
    """Each event is applied once or dropped, and its last letter says which. An event that was
    sent again, unseen, before it was dropped is applied all the same."""
    applied = await effects_of(house)
    letters = await list_dead_letters(house.bootstrap, TOPIC.name, limit=1_000)
    last = {x.event_id: x.state for x in letters if x.state is not State.SUPERSEDED}
    assert len(last) == len([x for x in letters if x.state is not State.SUPERSEDED])
    given_up = {event for event, state in last.items() if state is State.DROPPED}
    assert given_up <= dropped
    assert sorted(applied) == sorted(set(sent) - given_up)
    healed = {event for event, state in last.items() if state is State.HEALED}
    assert set(last) == given_up | healed


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
@given(SEQUENCES)
@example(["submit", "deliver", "fix", "replay, killed before its mark", "replay", "deliver"])
@example(["submit", "deliver", "drop", "replay", "fix", "replay one", "deliver", "replay one"])
@example(["submit", "deliver", "replay", "deliver", "replay", "drop", "deliver again"])
@example(["submit", "deliver", "replay, killed before its mark", "deliver", "replay", "deliver"])
def test_whatever_is_done_to_letters_an_event_has_its_effect_once(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live_through(Path(folder), names))
