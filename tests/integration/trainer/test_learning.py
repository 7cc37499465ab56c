"""Feedback becomes an adapter: over a real broker, in a real training process."""

import random
from pathlib import Path

from safetensors.torch import load_file

from tests.integration.trainer.conftest import Stage, eventually
from tidemill.api.events import v1 as events
from tidemill.api.trainer import v1 as api
from tidemill.artifacts import ArtifactStore


async def teach(stage: Stage, numbers: range, tenant: str = "harbor") -> None:
    for number in numbers:
        await stage.answer(number, tenant)
        await stage.correct(number, tenant)


async def test_enough_corrections_become_a_stored_adapter_and_more_become_the_next(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.trainer():
        await teach(stage, range(8))
        event = await stage.trained()
        lineage = await stage.call("GetLineage", api.GetLineageRequest(adapter=event.adapter))
        (run,) = await stage.runs()
        trigger = await stage.trigger()
        others = await stage.call("ListRuns", api.ListRunsRequest(), "somebody-else")
        await teach(stage, range(8, 16))
        second = await stage.trained(2)
        page = await stage.call("ListRuns", api.ListRunsRequest(page_size=1))
        rest = await stage.call(
            "ListRuns", api.ListRunsRequest(page_size=1, page_token=page.next_page_token)
        )
    assert others.runs == []
    assert (event.tenant_id, event.adapter) == ("harbor", "harbor-v1")
    assert event.dataset.supervised_examples == 8
    assert event.dataset.preference_pairs == 8
    assert event.metrics["train/examples"] == 8
    assert set(lineage.feedback_ids) == {f"fb-{number}" for number in range(8)}
    assert set(lineage.answer_ids) == {f"ans-{number}" for number in range(8)}
    assert (run.state, run.adapter) == (api.RUN_STATE_SUCCEEDED, "harbor-v1")
    assert run.steps_done == run.steps_planned > 0
    assert (trigger.pending_feedback, trigger.needed_feedback) == (0, 8)
    store = ArtifactStore(stage.settings.artifacts_url)
    folder = await store.fetch_folder(event.artifact_uri, event.artifact_hash, tmp_path / "got")
    assert load_file(folder / "adapter_model.safetensors")
    assert not any((stage.settings.home / "trainer" / "runs").iterdir())
    # The second keeps the first one's lessons.
    assert second.adapter == "harbor-v2"
    assert second.dataset.supervised_examples == 16
    assert [found.adapter for found in (*page.runs, *rest.runs)] == ["harbor-v2", "harbor-v1"]
    assert rest.next_page_token == ""


async def test_order_and_repetition_of_events_do_not_change_the_data_set(stage: Stage) -> None:
    shuffled = random.Random(5).sample(range(8), 8)
    async with stage.trainer():
        for tenant, numbers in (("one", range(8)), ("two", shuffled)):
            for number in numbers:
                await stage.correct(number, tenant)  # before its answer
            for number in reversed(numbers):
                await stage.answer(number, tenant)
                await stage.correct(number, tenant)
        await stage.trained(2)
    hashes = {event.tenant_id: event.dataset.content_hash for event in stage.adapters}
    assert hashes["one"] == hashes["two"]
    assert {event.adapter for event in stage.adapters} == {"one-v1", "two-v1"}
    by_tenant = {event.tenant_id: event.artifact_hash for event in stage.adapters}
    assert by_tenant["one"] == by_tenant["two"]


async def test_what_cannot_teach_is_counted_and_starts_nothing(stage: Stage) -> None:
    async with stage.trainer():
        for number in range(4):
            await stage.answer(number, purpose=events.PURPOSE_EVALUATION)
            await stage.correct(number)
        for number in range(4, 8):
            await stage.answer(number)
            await stage.correct(number, document="elsewhere")
        await stage.correct(99)

        async def settled() -> bool:
            state = await stage.trigger()
            return sum(state.excluded_feedback.values()) == 8 and state.waiting_feedback == 1

        await eventually(settled)
        state = await stage.trigger()
        assert dict(state.excluded_feedback) == {
            "EVALUATION_ANSWER": 4,
            "DOCUMENT_NOT_RETRIEVED": 4,
        }
        assert (state.pending_feedback, state.training) == (0, False)
        assert await stage.runs() == []
