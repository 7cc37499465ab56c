"""The tensors of Triton's vLLM backend, read from requests and written to responses."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from cpu_engine.sampling import InvalidSampling, SamplingParams, parse

UNSUPPORTED = ("image", "embedding_request", "return_cumulative_logprob", "return_logprobs")


class InvalidTensors(Exception):
    """The request's tensors do not fit together; the message says how."""


@dataclass(frozen=True)
class GenerationRequest:
    """One request, checked."""

    prompt: str
    stream: bool
    prepend: bool
    adapter: str | None
    params: SamplingParams
    finish_reason: bool
    input_tokens: bool
    output_tokens: bool


def read(request: Any) -> GenerationRequest:
    """Raises InvalidTensors or InvalidSampling."""
    for name in UNSUPPORTED:
        if _value(request, name, None):
            raise InvalidTensors(f"{name} is not supported by the CPU engine")
    stream = bool(_value(request, "stream", False))
    prepend = not bool(_value(request, "exclude_input_in_output", stream))
    if stream and prepend:
        raise InvalidTensors("When streaming, `exclude_input_in_output` = False is not allowed.")
    given = _sampling(request)
    adapter = given.pop("lora_name", None)
    return GenerationRequest(
        prompt=_value(request, "text_input", b"").decode("utf-8", "replace"),
        stream=stream,
        prepend=prepend,
        adapter=None if adapter is None else str(adapter),
        params=parse(given),
        finish_reason=bool(_value(request, "return_finish_reason", False)),
        input_tokens=bool(_value(request, "return_num_input_tokens", False)),
        output_tokens=bool(_value(request, "return_num_output_tokens", False)),
    )


def response(
    asked: GenerationRequest, text: str, finish: str | None, prompt_tokens: int, new_tokens: int
) -> Any:
    """One response with the outputs that were asked for; "None" until the finish, as vLLM."""
    tensors = [_text("text_output", text)]
    if asked.finish_reason:
        tensors.append(_text("finish_reason", finish or "None"))
    if asked.input_tokens:
        tensors.append(_count("num_input_tokens", np.asarray(prompt_tokens, np.uint32)))
    if asked.output_tokens:
        tensors.append(_count("num_output_tokens", np.asarray([new_tokens], np.uint32)))
    return pb_utils.InferenceResponse(tensors)


def failure(message: str, code: int) -> Any:
    """A response that carries an error and nothing else."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _sampling(request: Any) -> dict[str, Any]:
    tensor = _value(request, "sampling_parameters", None)
    try:
        given = json.loads(tensor if tensor is not None else request.parameters())
    except ValueError as error:
        raise InvalidSampling("sampling_parameters is not JSON") from error
    if not isinstance(given, dict):
        raise InvalidSampling("sampling_parameters is not a JSON object")
    return given


def _value(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def _text(name: str, text: str) -> Any:
    return pb_utils.Tensor(name, np.array([text.encode()], dtype=object))


def _count(name: str, value: np.ndarray) -> Any:
    return pb_utils.Tensor(name, value)
