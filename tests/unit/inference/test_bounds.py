"""What goes wrong while answering: every end has its error, its record and its time."""

import asyncio
import time
from collections.abc import Callable

import grpc
import pytest

from tests.unit.inference.conftest import House
from tidemill import topics
from tidemill.api.events.v1 import AnswerGenerated
from tidemill.api.inference.v1 import GenerateRequest
from tidemill.faults import Fault, Reason
from tidemill.rpc.client import metadata_of

DOWN = Fault(Reason.DEPENDENCY_UNAVAILABLE, dependency="model_server")


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition to hold."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def recorded(house: House) -> list[AnswerGenerated]:
    """The recorded answers, as soon as there are any: a cancelled call ends before its record."""
    async with asyncio.timeout(20):
        while True:
            if events := await house.events(topics.ANSWERS_GENERATED):
                return events
            await asyncio.sleep(0.01)


def call_of(house: House) -> grpc.aio.UnaryStreamCall:
    request = GenerateRequest(question="How many days of leave?")
    return house.stub.Generate(request, metadata=metadata_of(house.token()), timeout=30)


async def test_model_server_that_is_down_is_an_error_and_recorded(house: House) -> None:
    house.model.script = (DOWN,)
    with pytest.raises(Fault) as caught:
        await house.ask()
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    (event,) = await recorded(house)
    assert (event.finish_reason, event.error_reason) == ("error", "DEPENDENCY_UNAVAILABLE")
    assert event.prompt
    assert not event.refused


async def test_model_server_that_dies_mid_stream_never_ends_as_an_answer(house: House) -> None:
    house.model.script = ("Every employee gets leave [1]. ", "That is ", DOWN)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [response async for response in call_of(house)]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    (event,) = await recorded(house)
    assert event.finish_reason == "error"
    assert event.text == "Every employee gets leave [1]."


@pytest.mark.parametrize("reason", [Reason.EMBEDDING_MODEL_MISMATCH, Reason.DEPENDENCY_UNAVAILABLE])
async def test_retrievers_fault_comes_through_with_its_reason(house: House, reason: Reason) -> None:
    house.neighbours.fault = Fault(reason)
    with pytest.raises(Fault) as caught:
        await house.ask()
    assert caught.value.reason is reason
    (event,) = await recorded(house)
    assert event.error_reason == reason.value
    assert house.model.requests == []


async def test_retriever_that_stalls_is_given_up(small_house: House) -> None:
    small_house.neighbours.stall = True
    started = time.monotonic()
    with pytest.raises(Fault) as caught:
        await small_house.ask()
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 3


async def test_callers_deadline_is_kept_and_told(house: House) -> None:
    house.neighbours.stall = True
    with pytest.raises(Fault) as caught:
        await house.ask(timeout=1.0)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    (event,) = await recorded(house)
    assert event.error_reason == "DEADLINE_EXCEEDED"


async def test_client_that_cancels_stops_the_model_and_is_recorded(house: House) -> None:
    house.model.script = ("Every employee gets leave [1]. ", "That ", "is ", "all.")
    house.model.pause_after = 2
    call = call_of(house)
    assert (await call.read()).HasField("started")
    assert (await call.read()).text_delta == "Every employee gets leave [1]."
    await house.model.paused.wait()
    call.cancel()
    await until(lambda: house.model.stopped_early == 1)
    (event,) = await recorded(house)
    assert event.finish_reason == "cancelled"
    assert event.text == "Every employee gets leave [1]."
    assert event.completion == "Every employee gets leave [1]. That "
    assert event.usage.output_tokens == 2


async def test_cancelled_answer_gives_its_turn_back(small_house: House) -> None:
    small_house.model.pause_after = 0
    call = call_of(small_house)
    await call.read()
    await small_house.model.paused.wait()
    call.cancel()
    await until(lambda: small_house.parts.admission.inside == 0)
    small_house.model.pause_after = None
    *_, completed = await small_house.ask()
    assert completed.completed.text == "27 days [1]"


async def test_more_questions_than_places_are_refused_at_once(small_house: House) -> None:
    small_house.model.pause_after = 0
    at_work = call_of(small_house)
    await at_work.read()
    await small_house.model.paused.wait()
    waiting = asyncio.create_task(small_house.ask())
    await until(lambda: small_house.parts.admission.inside == 2)
    started = time.monotonic()
    with pytest.raises(Fault) as caught:
        await small_house.ask()
    assert caught.value.reason is Reason.OVERLOADED
    assert int(caught.value.metadata["retry_after_ms"]) > 0
    assert time.monotonic() - started < 2
    small_house.model.resume.set()
    small_house.model.pause_after = None
    assert (await waiting)[-1].completed.text == "27 days [1]"
    assert small_house.model.most_running == 1


async def test_wait_for_a_turn_ends_with_the_callers_deadline(small_house: House) -> None:
    small_house.model.pause_after = 0
    at_work = call_of(small_house)
    await at_work.read()
    await small_house.model.paused.wait()
    with pytest.raises(Fault) as caught:
        await small_house.ask(timeout=1.0)
    assert caught.value.reason is Reason.OVERLOADED
    at_work.cancel()


async def test_unforeseen_error_is_internal_and_recorded_without_its_text(house: House) -> None:
    house.model.script = (None,)  # type: ignore[assignment]
    with pytest.raises(Fault) as caught:
        await house.ask()
    assert caught.value.reason is Reason.INTERNAL
    assert caught.value.metadata == {}
    (event,) = await recorded(house)
    assert event.error_reason == "INTERNAL"
