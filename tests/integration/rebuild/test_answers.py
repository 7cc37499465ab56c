"""Inference's rows are lost: answers can be shown and judged, and a retry is no second feedback."""

from functools import partial

from tests.integration.rebuild.conftest import TENANT, Mesh
from tests.integration.rebuilding import ends, lost_and_rebuilt, rebuild
from tests.waiting import eventually
from tidemill import topics
from tidemill.api.common.v1 import (
    SUBMISSION_STATE_ACCEPTED,
    SUBMISSION_STATE_REJECTED,
    Submission,
)
from tidemill.api.events import v1 as events
from tidemill.api.inference.v1 import (
    GetAnswerRequest,
    GetAnswerResponse,
    GetSubmissionRequest,
    InferenceServiceStub,
    RecordFeedbackRequest,
)
from tidemill.bus.envelope import source_of
from tidemill.faults import Fault, Reason
from tidemill.rpc import call

ANSWER = events.AnswerGenerated(
    tenant_id=TENANT,
    answer_id="ans-1",
    question="How many days?",
    release_id="rel_1",
    prompt_version="p@1",
    text="27 days [1].",
    chunks=[
        events.RetrievedChunk(
            chunk_id="c1", document_id="leave", version=2, score=0.75, marker=1, title="Leave"
        ),
        events.RetrievedChunk(chunk_id="c2", document_id="pay", version=1, score=0.5, marker=2),
    ],
    cited_chunk_ids=["c1"],
    finish_reason="stop",
    purpose=events.PURPOSE_PRODUCTION,
)
CHANGE = events.ReleaseChanged(
    release=events.Release(release_id="rel_1", tenant_id=TENANT, prompt_version="p@1"),
    state=events.RELEASE_STATE_PROMOTED,
    epoch=3,
)


async def test_answers_come_back_and_a_retry_of_feedback_is_still_one(mesh: Mesh) -> None:
    await mesh.send(topics.ANSWERS_GENERATED, "ans-1", ANSWER)
    await mesh.send(topics.RELEASES_CHANGED, "releases", CHANGE)
    await rebuild(mesh.settings, "inference")
    request = RecordFeedbackRequest(answer_id="ans-1", request_id="r-1", correction="30 days")
    async with mesh.service("inference"):
        shown = await answer(mesh)
        feedback = await judge(mesh, request)
        await mesh.grown(topics.FEEDBACK_RECORDED, 1)
    (citation,) = shown.citations
    assert (citation.document_id, citation.version, citation.title) == ("leave", 2, "Leave")

    await lost_and_rebuilt(mesh.settings, "inference")

    length = await ends(mesh.settings)
    async with mesh.service("inference") as runtime:
        assert await answer(mesh) == shown
        assert await judge(mesh, request) == feedback
        await runtime.bus.relay.empty.wait()
    assert await ends(mesh.settings) == length


async def test_what_became_of_submitted_feedback_comes_back(mesh: Mesh) -> None:
    await mesh.send(topics.ANSWERS_GENERATED, "ans-1", ANSWER)
    await rebuild(mesh.settings, "inference")
    sent = []
    async with mesh.service("inference"):
        for answer_id in ("ans-1", "ans-2"):
            said = events.FeedbackSubmitted(answer_id=answer_id, thumb_up=True)
            sent.append(await mesh.send(topics.FEEDBACK_SUBMITTED, answer_id, said))
        became = [await eventually(partial(submission, mesh, event_id)) for event_id in sent]
        await mesh.grown(topics.FEEDBACK_RECORDED, 1)
    assert [(each.state, each.reason) for each in became] == [
        (SUBMISSION_STATE_ACCEPTED, ""),
        (SUBMISSION_STATE_REJECTED, "ANSWER_NOT_FOUND"),
    ]

    await lost_and_rebuilt(mesh.settings, "inference")

    length = await ends(mesh.settings)
    async with mesh.service("inference") as runtime:
        again = [await submission(mesh, event_id) for event_id in sent]
        await runtime.bus.relay.empty.wait()
    assert [(e.state, e.reason) for e in again] == [(e.state, e.reason) for e in became]
    assert await ends(mesh.settings) == length


async def submission(mesh: Mesh, event_id: str) -> Submission | None:
    stub = InferenceServiceStub(mesh.channels.to("inference"))
    request = GetSubmissionRequest(source=source_of("test"), event_id=event_id)
    try:
        found = await call(
            stub.GetSubmission, request, token=mesh.token("feedback:write"), timeout=10
        )
    except Fault as fault:
        if fault.reason is not Reason.NOT_FOUND:
            raise
        return None
    became: Submission = found.submission
    return became


async def answer(mesh: Mesh) -> GetAnswerResponse:
    stub = InferenceServiceStub(mesh.channels.to("inference"))
    request = GetAnswerRequest(answer_id="ans-1")
    token = mesh.token("answers:read", "answers:write")
    found: GetAnswerResponse = await call(stub.GetAnswer, request, token=token, timeout=10)
    return found


async def judge(mesh: Mesh, request: RecordFeedbackRequest) -> str:
    stub = InferenceServiceStub(mesh.channels.to("inference"))
    token = mesh.token("feedback:write", "answers:write")
    said = await call(stub.RecordFeedback, request, token=token, timeout=10)
    return str(said.feedback_id)
