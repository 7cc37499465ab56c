"""The model dies under an answer: an error in time, a record, and an answer again later."""

import time

import pytest

from tests.integration.inference.mesh import Mesh, eventually
from tests.integration.triton_process import Triton
from tidemill.api.inference.v1 import GenerateRequest
from tidemill.faults import Fault, Reason
from tidemill.rpc import stream

pytestmark = [
    pytest.mark.triton,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

QUESTION = "What is the Kelpline?"


async def test_model_killed_under_an_answer_is_an_error_in_time(mesh: Mesh, triton: Triton) -> None:
    request = GenerateRequest(question=QUESTION, max_output_tokens=256)
    answer = stream(mesh.stub.Generate, request, token=mesh.token(), timeout=60)
    started = await anext(answer)
    triton.kill_model("llm")
    begun = time.monotonic()
    with pytest.raises(Fault) as caught:
        [response async for response in answer]
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert time.monotonic() - begun < 45
    event = await mesh.recorded(started.started.answer_id)
    assert (event.finish_reason, event.error_reason) == ("error", "DEPENDENCY_UNAVAILABLE")

    async def answered() -> str:
        try:
            *_, completed = await mesh.ask(QUESTION, max_output_tokens=8, timeout=20)
        except Fault as fault:
            if fault.retryable:
                return ""
            raise
        return str(completed.completed.text)

    assert await eventually(answered)
