"""Sampling parameters in vLLM's vocabulary, and the choice of the next token."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

# Parameters that vLLM knows and this engine does not: only their neutral value is accepted.
NEUTRAL: Mapping[str, object] = {
    "n": 1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logprobs": None,
    "prompt_logprobs": None,
    "bad_words": None,
    "logit_bias": None,
    "allowed_token_ids": None,
    "structured_outputs": None,
    "truncate_prompt_tokens": None,
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "detokenize": True,
}


class InvalidSampling(Exception):
    """The request asks for something this engine does not do; the message names it."""


@dataclass(frozen=True)
class SamplingParams:
    """How one completion is drawn; names and defaults are vLLM's."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int = 16
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        checks = {
            "temperature must be >= 0": self.temperature >= 0,
            "top_p must be in (0, 1]": 0 < self.top_p <= 1,
            "top_k must be >= -1": self.top_k >= -1,
            "min_p must be in [0, 1]": 0 <= self.min_p <= 1,
            "repetition_penalty must be > 0": self.repetition_penalty > 0,
            "max_tokens must be >= 1": self.max_tokens >= 1,
            "min_tokens must be in [0, max_tokens]": 0 <= self.min_tokens <= self.max_tokens,
        }
        for message, holds in checks.items():
            if not holds:
                raise InvalidSampling(message)


def parse(given: Mapping[str, Any]) -> SamplingParams:
    """Sampling parameters from JSON; unknown keys fail, numbers may be strings, as in vLLM."""
    known = {field.name for field in fields(SamplingParams)}
    unknown = sorted(set(given) - known - set(NEUTRAL))
    if unknown:
        raise InvalidSampling(f"Unexpected keyword argument '{unknown[0]}'")
    for name, value in given.items():
        if name in NEUTRAL and value != NEUTRAL[name]:
            raise InvalidSampling(f"{name} is not supported by the CPU engine")
    try:
        return SamplingParams(
            **{name: _typed(name, value) for name, value in given.items() if name in known}
        )
    except (TypeError, ValueError) as error:
        raise InvalidSampling("a sampling parameter has the wrong type") from error


def _typed(name: str, value: Any) -> Any:
    if name == "stop":
        return (value,) if isinstance(value, str) else tuple(str(text) for text in value or ())
    if name == "stop_token_ids":
        return tuple(int(token) for token in value or ())
    if name == "ignore_eos":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if name == "seed":
        return None if value is None else int(value)
    if name in {"top_k", "max_tokens", "min_tokens"}:
        return int(value)
    return float(value)


def choose(
    logits: Tensor, sampling: SamplingParams, seen: list[int], generator: torch.Generator | None
) -> int:
    """The next token from one row of logits (vocabulary,); greedy at temperature 0."""
    if sampling.repetition_penalty != 1.0:
        logits = _penalised(logits, sampling.repetition_penalty, seen)
    if sampling.temperature == 0:
        return int(logits.argmax())
    chances = torch.softmax(logits.float() / sampling.temperature, -1)
    chances = _truncated(chances, sampling)
    return int(torch.multinomial(chances, 1, generator=generator))


def _penalised(logits: Tensor, penalty: float, seen: list[int]) -> Tensor:
    tokens = torch.tensor(sorted(set(seen)))
    logits = logits.clone()
    values = logits[tokens]
    logits[tokens] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def _truncated(chances: Tensor, sampling: SamplingParams) -> Tensor:
    """Zeroes the tail that min_p, top_k and top_p cut off."""
    chances = chances.where(chances >= sampling.min_p * chances.max(), 0.0)
    ordered, order = chances.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    keep = before < sampling.top_p * ordered.sum()
    if sampling.top_k > 0:
        keep[sampling.top_k :] = False
    return torch.zeros_like(chances).scatter(0, order, ordered.where(keep, 0.0))
