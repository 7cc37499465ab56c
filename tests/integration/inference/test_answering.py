"""Questions to the real mesh: what comes back and what the log says about it."""

import asyncio
from pathlib import Path

import pytest

from services.inference.domain.refusals import TEXTS, Refusal
from tests.integration.inference.mesh import Mesh, eventually, random_adapter
from tidemill import topics
from tidemill.api.events.v1 import (
    PURPOSE_EVALUATION,
    RELEASE_STATE_PROMOTED,
    RELEASE_STATE_PROPOSED,
    RELEASE_STATE_ROLLED_BACK,
    Release,
)
from tidemill.api.inference.v1 import GenerateRequest, RecordFeedbackRequest
from tidemill.faults import Fault, Reason
from tidemill.rpc import call, stream
from tidemill.rpc.client import metadata_of

pytestmark = [
    pytest.mark.triton,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

BACKUP = "At what time does the nightly backup start?"


async def test_question_is_answered_from_the_indexed_document(mesh: Mesh) -> None:
    started, *deltas, completed = await mesh.ask(BACKUP, end_user_id="user-1")
    done = completed.completed
    assert "01:40" in done.text
    assert "".join(delta.text_delta for delta in deltas).strip() == done.text.strip()
    assert not done.refused
    assert done.usage.input_tokens > 100
    assert done.usage.output_tokens > 0
    assert done.usage.cost_micros > 0
    event = await mesh.recorded(started.started.answer_id)
    assert event.chunks[0].document_id == "it/backup"
    assert event.chunks[0].score > 0.5
    assert len(event.question_embedding) == 4 * 384
    assert event.prompt.startswith("<|im_start|>system\n")
    assert "Nightly backups are kept for 42 days." in event.prompt
    assert event.completion.strip()


async def test_question_about_something_else_is_refused_unasked(mesh: Mesh) -> None:
    _, delta, completed = await mesh.ask("How long should I soak dried chickpeas?")
    assert delta.text_delta == TEXTS[Refusal.NO_RELEVANT_DOCUMENT]
    assert completed.completed.refused
    assert completed.completed.usage.input_tokens == 0


async def test_another_tenant_finds_none_of_it(mesh: Mesh) -> None:
    *_, completed = await mesh.ask(BACKUP, tenant="quay")
    assert completed.completed.refusal_reason == "NO_RELEVANT_DOCUMENT"
    assert list(completed.completed.citations) == []


@pytest.mark.parametrize(
    ("token", "reason"), [("", Reason.TOKEN_MISSING), ("x.y.z", Reason.TOKEN_INVALID)]
)
async def test_caller_without_identity_gets_nothing(mesh: Mesh, token: str, reason: Reason) -> None:
    calls = stream(mesh.stub.Generate, GenerateRequest(question=BACKUP), token=token, timeout=10)
    with pytest.raises(Fault) as caught:
        [response async for response in calls]
    assert caught.value.reason is reason


async def test_unknown_release_is_refused(mesh: Mesh) -> None:
    with pytest.raises(Fault) as caught:
        await mesh.ask(BACKUP, release_id="no-such-release")
    assert caught.value.reason is Reason.RELEASE_NOT_FOUND


async def test_feedback_on_an_answer_reaches_the_log_once(mesh: Mesh) -> None:
    started, *_ = await mesh.ask(BACKUP)
    answer_id = started.started.answer_id
    request = RecordFeedbackRequest(answer_id=answer_id, thumb_up=True, request_id="retry-me")
    token = mesh.token()
    first = await call(mesh.stub.RecordFeedback, request, token=token, timeout=10)
    again = await call(mesh.stub.RecordFeedback, request, token=token, timeout=10)
    assert first == again

    async def arrived() -> list[str]:
        events = await mesh.log(topics.FEEDBACK_RECORDED)
        return [event.feedback_id for event in events if event.answer_id == answer_id]

    assert await eventually(arrived) == [first.feedback_id]


async def test_client_that_goes_away_stops_the_model(mesh: Mesh) -> None:
    request = GenerateRequest(question=BACKUP)
    running = mesh.stub.Generate(request, metadata=metadata_of(mesh.token()), timeout=60)
    started = await running.read()
    running.cancel()
    event = await mesh.recorded(started.started.answer_id)
    assert event.finish_reason == "cancelled"
    assert event.text == ""
    *_, completed = await mesh.ask(BACKUP)
    assert "01:40" in completed.completed.text


async def test_questions_at_the_same_time_are_all_answered(mesh: Mesh) -> None:
    answers = await asyncio.gather(*(mesh.ask(BACKUP) for _ in range(6)))
    assert {answer[-1].completed.text for answer in answers} == {answers[0][-1].completed.text}


async def test_adapter_goes_live_and_is_taken_back(mesh: Mesh, tmp_path: Path) -> None:
    artifact = await random_adapter(mesh, tmp_path, "harbor-v1", seed=1)
    release = Release(
        release_id="rel-1",
        parent_release_id="base",
        adapter="harbor-v1",
        adapter_uri=artifact.uri,
        adapter_hash=artifact.hash,
    )
    *_, before = await mesh.ask(BACKUP)
    await mesh.change_release(release, RELEASE_STATE_PROPOSED, 1)

    async def evaluated() -> str:
        try:
            started, *_ = await mesh.ask(BACKUP, release_id="rel-1", max_output_tokens=16)
        except Fault as fault:
            if fault.reason is Reason.RELEASE_NOT_FOUND:
                return ""
            raise
        return str(started.started.answer_id)

    event = await mesh.recorded(await eventually(evaluated))
    assert (event.adapter, event.purpose) == ("harbor-v1", PURPOSE_EVALUATION)
    assert event.completion != before.completed.text
    await mesh.change_release(release, RELEASE_STATE_PROMOTED, 2)
    await eventually(lambda: answers_with(mesh, "rel-1"))
    await mesh.change_release(release, RELEASE_STATE_ROLLED_BACK, 3)
    await eventually(lambda: answers_with(mesh, "base"))


async def test_release_whose_adapter_is_gone_is_unavailable_and_harms_nobody(mesh: Mesh) -> None:
    artifacts = Path(mesh.settings.artifacts_url).as_uri()
    release = Release(
        release_id="rel-lost",
        adapter="harbor-v9",
        adapter_uri=f"{artifacts}/adapters/harbor-v9",
        adapter_hash="0" * 64,
    )
    await mesh.change_release(release, RELEASE_STATE_PROPOSED, 4)

    async def refused() -> Reason | None:
        with pytest.raises(Fault) as caught:
            await mesh.ask(BACKUP, release_id="rel-lost")
        known = caught.value.reason is not Reason.RELEASE_NOT_FOUND
        return caught.value.reason if known else None

    assert await eventually(refused) is Reason.ADAPTER_UNAVAILABLE
    started, *_ = await mesh.ask(BACKUP)
    assert started.started.release_id == "base"


async def answers_with(mesh: Mesh, release_id: str) -> bool:
    started, *_ = await mesh.ask(BACKUP, max_output_tokens=4)
    return bool(started.started.release_id == release_id)
