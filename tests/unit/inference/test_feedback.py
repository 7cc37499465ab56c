"""Feedback reaches the log once, for answers that exist, in the tenant that asked."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from tests.unit.inference.conftest import House
from tidemill import topics
from tidemill.api.inference.v1 import GetAnswerRequest, RecordFeedbackRequest
from tidemill.bus.tables import OutboxRow
from tidemill.faults import Fault, Reason
from tidemill.rpc import call


async def answered(house: House, question: str = "How many days of leave?") -> str:
    started, *_ = await house.ask(question)
    return str(started.started.answer_id)


async def give(house: House, answer_id: str, tenant: str = "harbor", **fields: Any) -> str:
    request = RecordFeedbackRequest(answer_id=answer_id, **fields)
    response = await call(house.stub.RecordFeedback, request, token=house.token(tenant), timeout=5)
    return str(response.feedback_id)


async def test_each_kind_of_feedback_becomes_its_event(house: House) -> None:
    first, second = await answered(house), await answered(house)
    await give(house, first, thumb_up=False)
    await give(house, first, correction=" 27 days ", document_ids=["hr/annual-leave"])
    await give(house, first, unanswerable=True)
    await give(house, first, preferred_answer_id=second)
    thumb, correction, unanswerable, preference = await house.events(topics.FEEDBACK_RECORDED)
    assert thumb.HasField("thumb")
    assert not thumb.thumb.up
    assert correction.correction.text == "27 days"
    assert list(correction.correction.document_ids) == ["hr/annual-leave"]
    assert unanswerable.correction.unanswerable
    assert preference.preference.preferred_answer_id == second
    assert {e.answer_id for e in (thumb, correction, unanswerable, preference)} == {first}


async def test_personal_data_in_a_correction_is_masked(house: House) -> None:
    await give(house, await answered(house), correction="Ask anna.berg@example.com")
    (event,) = await house.events(topics.FEEDBACK_RECORDED)
    assert event.correction.text == "Ask [EMAIL]"


async def test_retry_with_the_same_request_id_is_one_feedback(house: House) -> None:
    answer_id = await answered(house)
    first = await give(house, answer_id, thumb_up=True, request_id="req-1")
    assert await give(house, answer_id, thumb_up=True, request_id="req-1") == first
    assert len(await house.events(topics.FEEDBACK_RECORDED)) == 1


async def test_request_id_with_another_content_is_refused(house: House) -> None:
    answer_id = await answered(house)
    await give(house, answer_id, thumb_up=True, request_id="req-1")
    with pytest.raises(Fault) as caught:
        await give(house, answer_id, thumb_up=False, request_id="req-1")
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


async def test_calls_without_a_request_id_are_separate_feedback(house: House) -> None:
    answer_id = await answered(house)
    assert await give(house, answer_id, thumb_up=True) != await give(
        house, answer_id, thumb_up=True
    )
    assert len(await house.events(topics.FEEDBACK_RECORDED)) == 2


async def test_unknown_answer_is_refused(house: House) -> None:
    with pytest.raises(Fault) as caught:
        await give(house, "ans_unknown", thumb_up=True)
    assert caught.value.reason is Reason.ANSWER_NOT_FOUND


async def test_another_tenants_answer_is_unknown(house: House) -> None:
    answer_id = await answered(house)
    with pytest.raises(Fault) as caught:
        await give(house, answer_id, tenant="quay", thumb_up=True)
    assert caught.value.reason is Reason.ANSWER_NOT_FOUND
    assert await house.events(topics.FEEDBACK_RECORDED) == []


async def test_preferred_answer_must_exist_and_answer_the_same_question(house: House) -> None:
    first, other = await answered(house), await answered(house, "When does leave expire?")
    with pytest.raises(Fault) as caught:
        await give(house, first, preferred_answer_id="ans_unknown")
    assert caught.value.reason is Reason.ANSWER_NOT_FOUND
    with pytest.raises(Fault) as caught:
        await give(house, first, preferred_answer_id=other)
    assert caught.value.metadata["problem"] == "OTHER_QUESTION"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "signal"),
        ({"correction": "  "}, "correction"),
        ({"correction": "x" * 2_001}, "correction"),
        ({"unanswerable": False}, "unanswerable"),
        ({"thumb_up": True, "request_id": "x" * 201}, "request_id"),
        ({"thumb_up": True, "document_ids": [""]}, "document_ids"),
        ({"thumb_up": True, "document_ids": ["d"] * 21}, "document_ids"),
    ],
)
async def test_feedback_out_of_bounds_names_its_field(
    house: House, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(Fault) as caught:
        await give(house, "ans_any", **fields)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.metadata["field"] == field


async def test_answer_is_explained_to_its_own_tenant_only(house: House) -> None:
    answer_id = await answered(house)
    request = GetAnswerRequest(answer_id=answer_id)
    shown = await call(house.stub.GetAnswer, request, token=house.token(), timeout=5)
    assert (shown.question, shown.text) == ("How many days of leave?", "27 days [1]")
    assert (shown.release_id, shown.prompt_version) == ("base", "grounded-answer@1")
    assert [citation.chunk_id for citation in shown.citations] == ["chunk-0"]
    assert shown.usage.cost_micros == 47
    assert shown.traceparent
    with pytest.raises(Fault) as caught:
        await call(house.stub.GetAnswer, request, token=house.token("quay"), timeout=5)
    assert caught.value.reason is Reason.ANSWER_NOT_FOUND


async def test_feedback_joins_the_trace_of_its_answer(house: House) -> None:
    started, *_ = await house.ask()
    await give(house, started.started.answer_id, thumb_up=True)
    async with house.runtime.database.session() as session:
        rows = list(await session.scalars(select(OutboxRow).order_by(OutboxRow.position)))
    traces = {json.loads(row.headers)["traceparent"].split("-")[1] for row in rows}
    assert traces == {started.started.traceparent.split("-")[1]}
