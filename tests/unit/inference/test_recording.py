"""Each answer is recorded once, also when its caller leaves at the worst moment."""

import asyncio

import pytest

from services.inference.domain.answer import Answer, Question
from services.inference.domain.guard import GuardedAnswer
from services.inference.domain.releases import BASE, Choice
from services.inference.handlers.recording import Recorder
from tests.unit.inference.conftest import House
from tidemill import topics


def answer(name: str) -> Answer:
    question = Question("harbor", "How many?", "", 96, "")
    return Answer(name, question, "", Choice(BASE, canary=False), "grounded-answer@1", 0.0)


async def finished(recorder: Recorder, growing: Answer) -> None:
    async with recorder.recording(growing):
        growing.complete(GuardedAnswer("27 days [1]", (), None, ()), "stop")
        await recorder.finish(growing)


@pytest.mark.parametrize("turns", range(8))
async def test_caller_that_leaves_while_the_record_is_written_changes_nothing(
    house: House, turns: int
) -> None:
    running = asyncio.create_task(finished(house.parts.recorder, answer("ans_1")))
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await house.parts.recorder.close()
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert (event.answer_id, event.finish_reason) == ("ans_1", "stop")


async def test_answer_that_ended_is_recorded_before_finish_returns(house: House) -> None:
    await finished(house.parts.recorder, answer("ans_1"))
    (event,) = await house.events(topics.ANSWERS_GENERATED)
    assert event.text == "27 days [1]"
    assert event.duration_seconds > 0
