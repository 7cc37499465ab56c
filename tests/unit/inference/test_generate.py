"""Generate, over real gRPC and rows: what a caller sees and what is recorded."""

import pytest

from services.inference.domain.prompts import find_prompt
from services.inference.domain.refusals import TEXTS, Refusal
from tests.unit.inference.conftest import House
from tests.unit.inference.neighbours import VECTOR, scored
from tidemill import topics
from tidemill.api.events.v1 import PURPOSE_PRODUCTION
from tidemill.api.inference.v1 import GenerateRequest
from tidemill.faults import Fault, Reason
from tidemill.rpc import stream


async def test_answer_streams_with_citations_usage_and_cost(house: House) -> None:
    started, *deltas, completed = await house.ask()
    assert started.started.answer_id.startswith("ans_")
    assert started.started.release_id == "base"
    assert not started.started.canary
    assert "".join(delta.text_delta for delta in deltas) == "27 days [1]"
    done = completed.completed
    assert (done.text, done.refused, done.finish_reason) == ("27 days [1]", False, "stop")
    (citation,) = done.citations
    assert (citation.marker, citation.document_id, citation.version) == (1, "hr/annual-leave", 2)
    assert (citation.chunk_id, citation.title) == ("chunk-0", "Annual leave")
    assert citation.score == pytest.approx(0.71)
    assert (done.usage.input_tokens, done.usage.output_tokens) == (300, 3)
    assert done.usage.cost_micros == 47  # 300 * 150 + 3 * 600 per thousand, rounded up
    assert 0 < done.first_token_seconds <= done.duration_seconds


async def test_answer_is_recorded_with_everything_behind_it(house: House) -> None:
    (started, *_) = await house.ask(end_user_id="user-1")
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert event.answer_id == started.started.answer_id
    assert event.tenant_id == "harbor"
    assert event.question == "How many days of leave?"
    assert event.question_embedding == VECTOR
    assert event.prompt == house.model.requests[0].prompt
    assert "[2] Annual leave > Entitlement: Leave is requested in the portal" in event.prompt
    assert (event.completion, event.text) == ("27 days [1]", "27 days [1]")
    assert [chunk.marker for chunk in event.chunks] == [1, 2]
    assert list(event.cited_chunk_ids) == ["chunk-0"]
    assert event.purpose == PURPOSE_PRODUCTION
    assert {v.guardrail: v.outcome for v in event.guardrail_verdicts} == {
        "personal_data": "passed",
        "groundedness": "passed",
    }
    assert len(event.user_hash) == 64
    assert event.prompt_version == "grounded-answer@1"
    assert (event.release_id, event.adapter, event.canary) == ("base", "", False)


async def test_model_is_asked_greedily_within_bounds(house: House) -> None:
    await house.ask(max_output_tokens=17)
    (request,) = house.model.requests
    assert request.max_tokens == 17
    assert request.stop == find_prompt("").stop
    assert request.adapter is None
    assert 0 < request.timeout <= 30
    assert request.headers["traceparent"]


async def test_neighbours_are_called_with_the_callers_own_token(house: House) -> None:
    token = house.token()
    await house.ask(token=token)
    assert house.neighbours.tokens == [f"Bearer {token}"] * 2
    assert house.neighbours.searches[0].vector == VECTOR
    assert house.neighbours.searches[0].embedding_model.version == "v1"
    assert house.neighbours.searches[0].top_k == 2


async def test_personal_data_in_a_question_goes_nowhere(house: House) -> None:
    await house.ask("Did anna.berg@example.com get 27 days?")
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert house.neighbours.questions == ["Did [EMAIL] get 27 days?"]
    assert b"anna.berg" not in event.SerializeToString()
    assert "anna.berg" not in house.model.requests[0].prompt


async def test_personal_data_of_the_model_is_neither_streamed_nor_recorded(house: House) -> None:
    house.model.script = ("Every employee", " asks anna.", "berg@exam", "ple.com for leave [1]")
    *deltas, completed = await house.ask()
    assert completed.completed.text == "Every employee asks [EMAIL] for leave [1]"
    assert "berg" not in "".join(delta.text_delta for delta in deltas)
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert b"berg" not in event.SerializeToString()
    assert event.guardrail_verdicts[0].outcome == "masked"


async def test_question_without_a_near_chunk_is_refused_without_asking_the_model(
    house: House,
) -> None:
    house.neighbours.chunks = (scored(0, "Every employee gets 27 days.", 0.29),)
    _, delta, completed = await house.ask()
    assert delta.text_delta == TEXTS[Refusal.NO_RELEVANT_DOCUMENT]
    done = completed.completed
    assert (done.refused, done.refusal_reason) == (True, "NO_RELEVANT_DOCUMENT")
    assert (done.finish_reason, done.usage.cost_micros) == ("refused", 0)
    assert house.model.requests == []
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert event.refused
    assert event.prompt == ""
    assert event.question_embedding == VECTOR


async def test_empty_index_is_a_refusal_and_no_error(house: House) -> None:
    house.neighbours.chunks = ()
    *_, completed = await house.ask()
    assert completed.completed.refusal_reason == "NO_RELEVANT_DOCUMENT"


async def test_models_refusal_becomes_clear_words(house: House) -> None:
    house.model.script = ("NOT", "_IN_", "CONTEXT")
    _, delta, completed = await house.ask()
    assert delta.text_delta == TEXTS[Refusal.NOT_IN_CONTEXT]
    assert completed.completed.refusal_reason == "NOT_IN_CONTEXT"
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert event.completion == "NOT_IN_CONTEXT"
    assert event.text == TEXTS[Refusal.NOT_IN_CONTEXT]


async def test_invented_figure_is_refused_and_stops_the_model(house: House) -> None:
    house.model.script = ("It is 31 days. ", "And", " more", " and", " more")
    _, delta, completed = await house.ask()
    assert delta.text_delta == TEXTS[Refusal.UNGROUNDED]
    assert completed.completed.refusal_reason == "UNGROUNDED"
    assert house.model.stopped_early == 1
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert event.completion.startswith("It is 31 days")
    assert {v.guardrail: v.outcome for v in event.guardrail_verdicts}["groundedness"] == "refused"


async def test_answer_that_reaches_its_token_limit_says_so(house: House) -> None:
    house.model.finish_reason = "length"
    *_, completed = await house.ask()
    assert completed.completed.finish_reason == "length"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"question": "   "}, "question"),
        ({"question": "x" * 2_001}, "question"),
        ({"end_user_id": "x" * 201}, "end_user_id"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"max_output_tokens": 513}, "max_output_tokens"),
    ],
)
async def test_request_out_of_bounds_is_refused_with_the_fields_name(
    house: House, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(Fault) as caught:
        await house.ask(**fields)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.metadata["field"] == field
    assert await house.events(topics.ANSWERS_GENERATED) == []


@pytest.mark.parametrize(
    ("token", "reason"),
    [("", Reason.TOKEN_MISSING), ("nonsense", Reason.TOKEN_INVALID)],
)
async def test_call_without_a_valid_token_is_refused(
    house: House, token: str, reason: Reason
) -> None:
    with pytest.raises(Fault) as caught:
        async for _ in stream(
            house.stub.Generate, GenerateRequest(question="q"), token=token, timeout=5
        ):
            pass
    assert caught.value.reason is reason


async def test_token_without_the_scope_is_refused(house: House) -> None:
    token = house.runtime.identity.mint("harbor", ["documents:read"])
    with pytest.raises(Fault) as caught:
        await house.ask(token=token)
    assert caught.value.reason is Reason.SCOPE_MISSING
