"""Bad events are parked soon, and the good ones around them keep their pace."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.poison.rounds import (
    CLEAN,
    KINDS,
    TOPIC,
    Handler,
    Measured,
    events_of,
    measure,
    poison_round,
    send_all,
    side_by_side,
)
from tidemill.bus.dead_letters.actions import list_dead_letters

ROUNDS = 4
IN_TROUBLE = 0.6
LEAST = 0.9
PARKED_SECONDS = 5.0


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("broken", "schema", "oversize"), ("crash",), ("hang",)])
async def test_one_bad_event_in_a_hundred_leaves_its_neighbours_nine_tenths_of_their_pace(
    outside: Any, run_service: Any, kinds: tuple[str, ...]
) -> None:
    """A consumer that waits for a bad event is behind in every round."""
    paces = []
    for _ in range(ROUNDS):
        found = await measure(outside, run_service, kinds, total=200, every=100)
        check_parked(found)
        paces.append((round(found.pace, 2), round(found.pace_in_trouble, 2)))
        # A crash is over before its neighbours can be counted.
        if found.pace >= LEAST and (kinds != ("hang",) or found.pace_in_trouble >= IN_TROUBLE):
            return
    raise AssertionError(paces)


async def test_when_half_of_a_topic_is_bad_the_consumer_beside_it_is_done_no_later(
    outside: Any, run_service: Any
) -> None:
    kinds = ("broken", "oversize", "crash")
    found = await measure(outside, run_service, kinds, total=120, every=2)
    check_parked(found)
    assert len(found.letters) == 60
    own, beside = found.handler.good, found.clean.good
    assert beside[-1] - beside[0] <= (own[-1] - own[0]) / LEAST


async def test_when_all_of_a_topic_is_bad_the_consumer_beside_it_goes_on(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    handler, clean = Handler(), Handler()
    await send_all(outside, list(events_of(("broken", "oversize"), 150, 1)))
    await send_all(outside, list(events_of((), 100, 1)), CLEAN)
    together = side_by_side(handler, clean)
    with capture_logs():
        async with run_service("ingest", outside.settings, together) as runtime:

            async def ended() -> bool:
                return len(clean.good) == 100 and bool(await runtime.bus.stalled())

            await eventually(ended, 60)
            assert await runtime.bus.stalled() == [f"ingest/{TOPIC.name}"]
    letters = await list_dead_letters(outside.bootstrap, TOPIC.name, limit=1_000)
    assert len(letters) == 100


def check_parked(found: Measured) -> None:
    """Within three tries and five seconds, each with the reason of its kind."""
    for letter in found.letters:
        kind = letter.event_id.partition("-")[0]
        assert letter.reason == KINDS[kind][1]
        tries = {"oversize": 1, "crash": 3, "hang": 3}.get(kind, 0)
        assert found.handler.tries[letter.event_id] == tries
    assert found.slowest_seconds < PARKED_SECONDS


async def test_bad_events_of_all_kinds_are_parked_then_healed_once_or_dropped(
    outside: Any, run_service: Any
) -> None:
    found = await poison_round(outside, run_service)
    assert found == {"dead_lettered": 6, "healed": 3, "dropped": 3}
