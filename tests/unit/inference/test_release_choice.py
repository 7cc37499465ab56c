"""Which release answers whom, and what happens when its adapter cannot be had."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from services.inference.adapters.adapter_shelf import OUTAGE_RETRY_SECONDS, RETRY_SECONDS
from services.inference.adapters.store import load_releases, save_release
from services.inference.domain.releases import Adapter, Release, State
from services.inference.handlers.releases import Preloading, release_of
from tests.unit.inference.conftest import House
from tidemill import topics
from tidemill.api.events.v1 import (
    PURPOSE_EVALUATION,
    RELEASE_STATE_CANARY,
    ReleaseChanged,
)
from tidemill.api.events.v1 import Release as ReleaseMessage
from tidemill.artifacts import ArtifactStore
from tidemill.faults import Fault, Reason

EVALUATE = "releases:evaluate"


async def stored_adapter(house: House, folder: Path, name: str) -> Adapter:
    """A folder in the artifact store under the adapter's name."""
    source = folder / "trained" / name
    source.mkdir(parents=True)
    (source / "adapter_config.json").write_text(f'{{"name": "{name}"}}')
    store = ArtifactStore(house.runtime.settings.artifacts_url)
    artifact = await store.put_folder(source, f"adapters/{name}")
    return Adapter(name, artifact.uri, artifact.hash)


async def change(
    house: House, name: str, state: State, epoch: int, tenant: str = "harbor", **fields: object
) -> Release:
    release = replace(Release(name, state=state, epoch=epoch), **fields)  # type: ignore[arg-type]
    await house.runtime.bus.write(tenant, lambda unit: save_release(unit.session, tenant, release))
    house.parts.releases.forget(tenant)
    return release


async def test_promoted_release_answers_with_its_adapter(house: House, tmp_path: Path) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROMOTED, 3, adapter=adapter)
    started, *_ = await house.ask()
    assert started.started.release_id == "r1"
    assert house.model.requests[0].adapter == "harbor-v1"
    loaded = house.model.loaded["harbor-v1"]
    assert (loaded / "adapter_config.json").read_text() == '{"name": "harbor-v1"}'
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert (event.release_id, event.adapter) == ("r1", "harbor-v1")


async def test_another_tenants_release_answers_nobody_here(house: House) -> None:
    await change(house, "r1", State.PROMOTED, 3, tenant="quay")
    started, *_ = await house.ask()
    assert started.started.release_id == "base"
    with pytest.raises(Fault) as caught:
        await house.ask(release_id="r1", token=house.token("harbor", EVALUATE))
    assert caught.value.reason is Reason.RELEASE_NOT_FOUND


async def test_named_release_needs_the_scope_and_is_an_evaluation(house: House) -> None:
    await change(house, "r1", State.PROPOSED, 1)
    with pytest.raises(Fault) as caught:
        await house.ask(release_id="r1")
    assert caught.value.reason is Reason.SCOPE_MISSING
    started, *_ = await house.ask(release_id="r1", token=house.token("harbor", EVALUATE))
    assert started.started.release_id == "r1"
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert event.purpose == PURPOSE_EVALUATION
    assert not event.canary


async def test_unknown_release_is_refused(house: House) -> None:
    with pytest.raises(Fault) as caught:
        await house.ask(release_id="nothing", token=house.token("harbor", EVALUATE))
    assert caught.value.reason is Reason.RELEASE_NOT_FOUND
    assert await house.events(topics.ANSWERS_GENERATED) == []


async def test_canary_answers_its_share_of_users_and_each_user_always_the_same(
    house: House,
) -> None:
    await change(house, "r2", State.CANARY, 5, canary_share=0.5)
    users = [f"user-{number}" for number in range(24)]
    first = [(await house.ask(end_user_id=user))[0].started for user in users]
    again = [(await house.ask(end_user_id=user))[0].started for user in users]
    assert [s.release_id for s in first] == [s.release_id for s in again]
    assert {s.release_id for s in first} == {"r2", "base"}
    assert all(s.canary == (s.release_id == "r2") for s in first)
    events = await house.events(topics.ANSWERS_GENERATED)
    assert [event.canary for event in events[:24]] == [s.canary for s in first]


async def test_adapter_that_cannot_be_loaded_is_never_replaced_by_the_base_model(
    house: House, tmp_path: Path
) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROMOTED, 3, adapter=adapter)
    house.model.load_fault = Fault(Reason.DEPENDENCY_UNAVAILABLE)
    with pytest.raises(Fault) as caught:
        await house.ask()
    assert caught.value.reason is Reason.ADAPTER_UNAVAILABLE
    assert house.model.requests == []


async def test_adapter_with_changed_content_is_refused(house: House, tmp_path: Path) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROPOSED, 3, adapter=replace(adapter, hash="0" * 64))
    with pytest.raises(Fault) as caught:
        await house.ask(release_id="r1", token=house.token("harbor", EVALUATE))
    assert caught.value.reason is Reason.ADAPTER_UNAVAILABLE
    assert house.model.loaded == {}
    *_, completed = await house.ask()
    assert completed.completed.text == "27 days [1]"


@pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", ""])
async def test_adapter_name_cannot_leave_its_folder(
    house: House, tmp_path: Path, name: str
) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    with pytest.raises(Fault) as caught:
        await house.parts.shelf.ensure(replace(adapter, name=name))
    assert caught.value.reason is Reason.ADAPTER_UNAVAILABLE
    assert house.model.loaded == {}


async def test_canary_whose_adapter_fails_leaves_its_users_with_the_release_in_force(
    house: House, tmp_path: Path
) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v2")
    await change(house, "r2", State.CANARY, 5, adapter=adapter, canary_share=1.0)
    house.model.load_fault = Fault(Reason.DEPENDENCY_UNAVAILABLE)
    started, *_ = await house.ask(end_user_id="user-1")
    assert (started.started.release_id, started.started.canary) == ("base", False)


async def test_adapter_is_loaded_ahead_of_need(house: House, tmp_path: Path) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROPOSED, 3, adapter=adapter)
    await Preloading(house.runtime.database, house.parts.shelf).turn()
    assert list(house.model.loaded) == ["harbor-v1"]
    assert not house.parts.shelf.may_try(adapter)


async def test_failed_load_is_not_tried_again_at_once(house: House, tmp_path: Path) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROPOSED, 3, adapter=adapter)
    house.model.load_fault = Fault(Reason.DEPENDENCY_UNAVAILABLE)
    await Preloading(house.runtime.database, house.parts.shelf).turn()
    assert not house.parts.shelf.may_try(adapter)
    assert OUTAGE_RETRY_SECONDS < 5 < RETRY_SECONDS


async def test_a_replica_is_not_ready_while_an_adapter_waits_for_the_model_server(
    house: House, tmp_path: Path
) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROMOTED, 3, adapter=adapter)
    preloading = Preloading(house.runtime.database, house.parts.shelf)
    house.model.load_fault = Fault(Reason.DEPENDENCY_UNAVAILABLE)
    await preloading.turn()
    assert not preloading.is_done()
    house.model.load_fault = None
    async with asyncio.timeout(5 * OUTAGE_RETRY_SECONDS):
        while not preloading.is_done():
            await preloading.turn()
            await asyncio.sleep(0.05)
    assert list(house.model.loaded) == ["harbor-v1"]


async def test_a_damaged_adapter_does_not_keep_a_replica_from_serving_others(
    house: House, tmp_path: Path
) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROMOTED, 3, adapter=replace(adapter, hash="0" * 64))
    preloading = Preloading(house.runtime.database, house.parts.shelf)
    await preloading.turn()
    assert preloading.is_done()
    assert house.model.loaded == {}


async def test_adapter_that_the_model_server_lost_is_brought_again(
    house: House, tmp_path: Path
) -> None:
    adapter = await stored_adapter(house, tmp_path, "harbor-v1")
    await change(house, "r1", State.PROMOTED, 3, adapter=adapter)
    house.model.script = (Fault(Reason.ADAPTER_UNAVAILABLE),)
    with pytest.raises(Fault):
        await house.ask()
    house.model.loaded.clear()
    house.model.script = ("27 days [1]",)
    *_, completed = await house.ask()
    assert completed.completed.text == "27 days [1]"
    assert list(house.model.loaded) == ["harbor-v1"]


async def test_release_with_an_unknown_prompt_is_not_served_with_another(house: House) -> None:
    await change(house, "r1", State.PROMOTED, 3, prompt_version="grounded-answer@99")
    with pytest.raises(Fault) as caught:
        await house.ask()
    assert caught.value.reason is Reason.FAILED_PRECONDITION
    assert caught.value.metadata["problem"] == "PROMPT_UNKNOWN"


async def test_releases_are_kept_in_rows_and_stale_changes_ignored(house: House) -> None:
    adapter = Adapter("a", "file:///a", "ff")
    kept = await change(
        house, "r1", State.CANARY, 4, adapter=adapter, canary_share=0.3, parent_release_id="base"
    )
    await change(house, "r1", State.PROPOSED, 2)
    releases = await load_releases(house.runtime.database, "harbor")
    assert releases.find("r1") == kept


def test_change_without_a_release_or_a_state_is_invalid() -> None:
    for message in (
        ReleaseChanged(release=ReleaseMessage(release_id="r1")),
        ReleaseChanged(state=RELEASE_STATE_CANARY),
    ):
        with pytest.raises(Fault) as caught:
            release_of(message)
        assert caught.value.reason is Reason.SCHEMA_INVALID


async def test_a_state_that_only_a_newer_evaluator_knows_does_not_answer(house: House) -> None:
    await change(house, "r1", State.SUPERSEDED, 1)
    await change(house, "r2", State.PROMOTED, 2)
    newer = release_of(
        ReleaseChanged(release=ReleaseMessage(release_id="r2"), state=99, epoch=3)  # type: ignore[arg-type]
    )
    await change(house, "r2", newer.state, newer.epoch)
    releases = await load_releases(house.runtime.database, "harbor")
    found = releases.find("r2")
    assert found is not None
    assert found.state is State.UNKNOWN
    assert releases.in_force().release_id == "r1"
