"""An event's effects happen once, however often it is delivered."""

from typing import Any

from sqlalchemy import delete

from tests.integration.core.parts import effects, recording
from tidemill import topics
from tidemill.bus.tables import InboxRow


async def test_the_same_event_sent_five_times_has_one_effect(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    async with run_service("ingest", outside.settings, recording) as runtime:
        for _ in range(5):
            await outside.submit("doc", event_id="same")
        await outside.submit("doc", event_id="last")

        async def last_applied() -> bool:
            return "last" in await effects(runtime)

        await eventually(last_applied)
        assert await effects(runtime) == ["same", "last"]
    # Leaving the service drains its outbox.
    assert len(await outside.read("documents.chunked.v1")) == 2
    assert await outside.read("documents.submitted.v1.dlq") == []


async def test_a_replay_of_the_whole_topic_changes_nothing(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    """A new group starts at offset 0; the inbox is what it was."""
    async with run_service("ingest", outside.settings, recording) as runtime:
        for number in range(20):
            await outside.submit(f"doc-{number % 7}", event_id=f"event-{number}")

        async def all_applied() -> bool:
            return len(await effects(runtime)) == 20

        await eventually(all_applied)
        before = await effects(runtime)
    await outside.rewind(topics.DOCUMENTS_SUBMITTED)
    async with run_service("ingest", outside.settings, recording) as runtime:
        await outside.submit("doc-0", event_id="after")

        async def caught_up() -> bool:
            return "after" in await effects(runtime)

        await eventually(caught_up)
        assert (await effects(runtime))[:-1] == before


async def test_the_inbox_is_what_keeps_effects_single(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    """The counter-test: without its inbox rows the same replay doubles every effect."""
    async with run_service("ingest", outside.settings, recording) as runtime:
        await outside.submit("doc", event_id="one")

        async def applied() -> bool:
            return len(await effects(runtime)) == 1

        await eventually(applied)
        async with runtime.database.transaction() as session:
            await session.execute(delete(InboxRow))
        await outside.submit("doc", event_id="one")

        async def doubled() -> bool:
            return len(await effects(runtime)) == 2

        await eventually(doubled)


async def test_two_tenants_may_use_the_same_event_id(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    async with run_service("ingest", outside.settings, recording) as runtime:
        await outside.submit("doc", event_id="one", tenant="acme")
        await outside.submit("doc", event_id="one", tenant="globex")

        async def both_applied() -> bool:
            return await effects(runtime) == ["one", "one"]

        await eventually(both_applied)


async def test_an_event_without_a_valid_token_cannot_hide_the_real_one(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    """A stranger who guesses an event's id and sends it first must not have it dropped."""
    async with run_service("ingest", outside.settings, recording) as runtime:
        await outside.submit("doc", event_id="guessed", tidemill_token="forged")
        await outside.submit("doc", event_id="guessed")

        async def real_one_applied() -> bool:
            return await effects(runtime) == ["guessed"]

        await eventually(real_one_applied)
    (letter,) = await outside.read("documents.submitted.v1.dlq")
    assert dict(letter.headers)["tidemill-reason"] == b"TOKEN_INVALID"


async def test_published_events_have_the_same_ids_when_applied_again(
    outside: Any, run_service: Any, eventually: Any
) -> None:
    """A service whose rows were lost rebuilds them from the log and publishes known ids."""
    for _ in range(2):
        for file in (outside.settings.home / "ingest").glob("rows.db*"):
            file.unlink()
        await outside.rewind(topics.DOCUMENTS_SUBMITTED)
        async with run_service("ingest", outside.settings, recording) as runtime:
            await outside.submit("doc", event_id="one")

            async def applied(runtime: Any = runtime) -> bool:
                return len(await effects(runtime)) == 1

            await eventually(applied)
    published = await outside.read("documents.chunked.v1")
    assert len({dict(record.headers)["ce_id"] for record in published}) == 1
    assert len(published) == 2
