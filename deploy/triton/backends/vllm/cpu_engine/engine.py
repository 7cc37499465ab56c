"""What the scheduler needs of an engine, and the default one on our own decoder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from cpu_engine import adapters
from cpu_engine.decoder import Decoder, Segment, UnsupportedModel
from cpu_engine.prefix_cache import BLOCK, PrefixCache


@dataclass
class Progress:
    """One completion's place in the engine: tokens known, tokens computed, engine memory."""

    tokens: list[int]
    adapter: str | None
    capacity: int
    computed: int = 0
    memory: Any = field(default=None, repr=False)


class Engine(Protocol):
    """Computes next-token logits for several completions at once."""

    parallel: bool
    """Whether `open` and `step` may run in several threads at a time."""

    def add_adapter(self, name: str, folder: Path) -> None:
        """Makes an adapter usable; raises adapters.InvalidAdapter."""

    def open(self, progress: Progress) -> None:
        """Reserves memory; may set `computed` past a beginning that is already known."""

    def step(self, work: Sequence[tuple[Progress, int]]) -> Tensor:
        """Computes the next `count` tokens of each; logits (work, vocabulary) after the last."""


class DecoderEngine:
    """The default: ragged batches on our decoder, adapters gathered, prompt beginnings reused."""

    parallel = True

    def __init__(self, folder: Path, dtype: torch.dtype, cached_tokens: int) -> None:
        self._decoder = Decoder(folder, dtype)
        self._adapters: dict[str, adapters.Adapter] = {}
        self._prefixes = PrefixCache(cached_tokens // BLOCK)

    def add_adapter(self, name: str, folder: Path) -> None:
        shape = self._decoder.shape
        loaded = adapters.load(folder, shape.layers, shape.widths, self._decoder.dtype)
        self._adapters[name] = loaded

    def open(self, progress: Progress) -> None:
        progress.memory = self._decoder.memory(progress.capacity)
        progress.computed = self._prefixes.read(progress.adapter, progress.tokens, progress.memory)

    def step(self, work: Sequence[tuple[Progress, int]]) -> Tensor:
        logits = self._decoder.forward([self._segment(progress, n) for progress, n in work])
        for progress, count in work:
            progress.computed += count
            if count > 1 and progress.computed == len(progress.tokens):
                self._prefixes.write(progress.adapter, progress.tokens, progress.memory)
        return logits

    def _segment(self, progress: Progress, count: int) -> Segment:
        start = progress.computed
        adapter = self._adapters[progress.adapter] if progress.adapter else None
        return Segment(progress.tokens[start : start + count], start, progress.memory, adapter)


def open_engine(folder: Path, dtype: torch.dtype, cached_tokens: int) -> Engine:
    """Our decoder where it knows the architecture, Transformers for every other model."""
    try:
        return DecoderEngine(folder, dtype, cached_tokens)
    except UnsupportedModel:
        from cpu_engine.generic import TransformersEngine

        return TransformersEngine(folder, dtype)


def end_tokens(folder: Path) -> frozenset[int]:
    """Tokens that end a completion, from the model's own configuration."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        found = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
        if found is not None:
            return frozenset([found] if isinstance(found, int) else found)
    return frozenset()
