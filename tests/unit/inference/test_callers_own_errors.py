"""What a caller brings about is told as the caller's, over the real client of the model server."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from services.inference.adapters.language_model import LanguageModel, open_language_model
from services.inference.domain.completion import CompletionRequest
from services.inference.settings import InferenceSettings
from tests.unit.inference.conftest import House, serve
from tests.unit.inference.kserve_server import kserve_server
from tests.unit.inference.neighbours import Neighbours
from tests.unit.inference.test_bounds import recorded
from tidemill.faults import Fault, Reason
from tidemill.modelserver.errors import from_server
from tidemill.runtime import open_runtime
from tidemill.settings import MeshSettings

TOO_LONG = (
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096",
    "This model's maximum context length is 4096 tokens. However, your request has 5000 input "
    "tokens. Please reduce the length of the input messages.",
    "Error in preprocessing prompt inputs: please reduce the length of the prompt",
)
SHORT, LONG = 0.3, 30.0


async def ended(model: LanguageModel, timeout: float, first_token_timeout: float = LONG) -> Fault:
    asked = CompletionRequest("r", "Hello", 8, (), None, first_token_timeout, timeout)
    with pytest.raises(Fault) as caught:
        [delta async for delta in model.complete(asked)]
    return caught.value


@pytest.mark.parametrize("words", TOO_LONG)
async def test_prompt_that_is_too_long_names_the_field(words: str) -> None:
    async with kserve_server(words) as address, open_language_model(address, None) as model:
        fault = await ended(model, 5.0)
    assert fault.status is grpc.StatusCode.INVALID_ARGUMENT
    assert fault.metadata == {"field": "question", "problem": "PROMPT_TOO_LONG"}


async def test_time_of_the_request_is_no_outage_and_a_stall_is_one() -> None:
    async with kserve_server() as address, open_language_model(address, None) as model:
        over = await ended(model, SHORT)
        stalled = await ended(model, LONG, first_token_timeout=SHORT)
    assert over.reason is Reason.DEADLINE_EXCEEDED
    assert "dependency" not in over.metadata
    assert stalled.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert stalled.metadata["dependency"] == "model_server"


async def test_request_that_we_put_together_wrong_is_not_the_callers() -> None:
    words = "temperature must be non-negative"
    async with kserve_server(words) as address, open_language_model(address, None) as model:
        assert (await ended(model, 5.0)).reason is Reason.FAILED_PRECONDITION


async def slow_house(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings], neighbours: Neighbours, limit: float
) -> tuple[Fault, str]:
    """What a caller with two seconds sees of a model that says nothing, and the log's reason."""
    address = f"127.0.0.1:{neighbours.port}"
    mesh = mesh_settings(tmp_path, service_addresses=f"embedder={address},retriever={address}")
    settings = InferenceSettings(answer_seconds=limit)
    async with (
        kserve_server() as server,
        open_language_model(server, None) as model,
        open_runtime("inference", mesh) as runtime,
    ):
        house = await serve(runtime, settings, model, neighbours)
        with pytest.raises(Fault) as caught:
            await house.ask(timeout=2.0)
        (event,) = await recorded(house)
        codes = {
            s.labels["code"]
            for m in runtime.telemetry.registry.collect()
            for s in m.samples
            if s.name == "tidemill_rpc_duration_seconds_count"
        }
    assert event.finish_reason == "error"
    assert codes == {"CALLERS_DEADLINE" if limit > 2 else "DEADLINE_EXCEEDED"}
    return caught.value, event.error_reason


async def test_callers_deadline_is_recorded_as_the_callers(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings], neighbours: Neighbours
) -> None:
    fault, reason = await slow_house(tmp_path, mesh_settings, neighbours, limit=60.0)
    assert (fault.status, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_our_own_limit_is_recorded_as_a_part_that_does_not_answer(
    tmp_path: Path, mesh_settings: Callable[..., MeshSettings], neighbours: Neighbours
) -> None:
    fault, reason = await slow_house(tmp_path, mesh_settings, neighbours, limit=0.5)
    assert fault.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason == "DEPENDENCY_UNAVAILABLE"


async def test_retriever_that_stalls_is_recorded_as_an_outage(small_house: House) -> None:
    small_house.neighbours.stall = True
    with pytest.raises(Fault):
        await small_house.ask()
    (event,) = await recorded(small_house)
    assert event.error_reason == "DEPENDENCY_UNAVAILABLE"


def test_unknown_words_stay_an_outage() -> None:
    assert from_server("INTERNAL", "CUDA error: out of memory").reason == "MODEL_FAILED"
