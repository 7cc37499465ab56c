"""`tidemill dlq` as an operator types it: what waits, what is dropped, what is sent again."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.integration.core.test_failing_handlers import Handler
from tidemill.bus.dead_letters.actions import list_dead_letters
from tidemill.cli.main import build

Call = Callable[..., Any]
WHY = ("--why", "sent by a test")


@pytest.fixture
def dlq(outside: Any, monkeypatch: pytest.MonkeyPatch) -> Call:
    """await dlq("list") gives the exit code and the JSON document."""
    monkeypatch.setenv("TIDEMILL_HOME", str(outside.settings.home))
    monkeypatch.setenv("TIDEMILL_KAFKA", outside.bootstrap)

    async def call(*arguments: str) -> tuple[int, Any]:
        command = ["dlq", *arguments, "--json"]
        # A command has a loop of its own.
        result = await asyncio.to_thread(CliRunner().invoke, build(), command)
        return result.exit_code, json.loads(result.stdout) if result.stdout else None

    return call


async def letters_of(outside: Any, eventually: Any, *names: str) -> dict[str, str]:
    """Ids of the letters by event, once each of those documents is parked."""
    for name in names:
        await outside.submit(name, event_id=f"event-{name}")

    async def parked() -> bool:
        return len(await list_dead_letters(outside.bootstrap)) == len(names)

    await eventually(parked)
    return {x.event_id: x.letter_id for x in await list_dead_letters(outside.bootstrap)}


async def listed(dlq: Call, *options: str) -> list[Any]:
    code, document = await dlq("list", *options)
    assert code == 0
    return [(x["event_id"], x["state"]) for x in document["dead_letters"]]


async def test_a_dropped_letter_waits_no_more_and_says_who_why_and_when(
    outside: Any, run_service: Any, eventually: Any, dlq: Call
) -> None:
    async with run_service("ingest", outside.settings, Handler().lifespan):
        letters = await letters_of(outside, eventually, "bug", "refused")
    one = letters["event-refused"]
    assert await dlq("drop", one, "--by", "ops", *WHY) == (0, {"dropped": 1, "settled": 0})
    assert await listed(dlq) == [("event-bug", "dead_lettered")]
    code, document = await dlq("list", "--state", "dropped")
    assert code == 0
    (dropped,) = document["dead_letters"]
    assert (dropped["id"], dropped["state"]) == (one, "dropped")
    assert (dropped["dropped"]["by"], dropped["dropped"]["why"]) == ("ops", "sent by a test")
    assert dropped["dropped"]["at"] > "2026"
    assert document["counts"]["dead_lettered"] == 1
    assert document["counts"]["dropped"] == 1
    assert await dlq("drop", one, *WHY) == (0, {"dropped": 0, "settled": 1})


async def test_filters_drop_what_they_fit_and_only_with_a_confirmation(
    outside: Any, run_service: Any, eventually: Any, dlq: Call
) -> None:
    async with run_service("ingest", outside.settings, Handler().lifespan):
        await letters_of(outside, eventually, "bug", "refused", "cancelled")
    code, document = await dlq("drop", "--reason", "INTERNAL", *WHY)
    assert (code, document["error"]["reason"]) == (2, "CONFIRMATION_NEEDED")
    assert document["would_drop"] == 2
    assert len(await listed(dlq, "--state", "dropped")) == 0
    topic = ("--topic", "documents.withdrawn.v1")
    assert await dlq("drop", *topic, "--yes", *WHY) == (0, {"dropped": 0, "settled": 0})
    reason = ("--reason", "INTERNAL")
    assert await dlq("drop", *reason, "--yes", *WHY) == (0, {"dropped": 2, "settled": 0})
    assert await dlq("drop", "--all", "--yes", *WHY) == (0, {"dropped": 1, "settled": 2})
    assert await listed(dlq) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("drop", *WHY), "INVALID_ARGUMENT"),
        (("drop", "--all", "--yes", "--why", ""), "INVALID_ARGUMENT"),
        (("replay",), "INVALID_ARGUMENT"),
        (("list", "--state", "lost"), "INVALID_ARGUMENT"),
    ],
)
async def test_a_call_that_must_change_says_so(
    dlq: Call, arguments: tuple[str, ...], reason: str
) -> None:
    code, document = await dlq(*arguments)
    assert (code, document["error"]["reason"]) == (2, reason)


async def test_an_unknown_letter_is_not_found(dlq: Call) -> None:
    for arguments in (("drop", "nope", *WHY), ("replay", "nope"), ("show", "nope")):
        code, document = await dlq(*arguments)
        assert (code, document["error"]["reason"]) == (1, "NOT_FOUND")


async def test_a_replay_by_filter_leaves_dropped_letters_and_tells_what_it_healed(
    outside: Any, run_service: Any, eventually: Any, dlq: Call
) -> None:
    handler = Handler()
    async with run_service("ingest", outside.settings, handler.lifespan):
        letters = await letters_of(outside, eventually, "bug", "refused")
        await dlq("drop", letters["event-refused"], *WHY)
        handler.failing = False
        code, counts = await dlq("replay", "--all")
        assert (code, counts["replayed"], counts["settled"]) == (0, 1, 1)

        async def healed() -> bool:
            return ("event-bug", "healed") in await listed(dlq, "--state", "all")

        await eventually(healed)
        assert await listed(dlq) == []
        code, counts = await dlq("replay", letters["event-refused"])
        assert (code, counts["replayed"]) == (0, 1), "by its id a dropped letter comes back"

        async def both() -> bool:
            return len(await listed(dlq, "--state", "healed")) == 2

        await eventually(both)
    assert handler.tries == {"bug": 4, "refused": 2}
