"""Runs any causal model that Transformers knows, one sequence at a time: slow, but general."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from cpu_engine.adapters import InvalidAdapter
from cpu_engine.engine import Progress


class TransformersEngine:
    """The engine for architectures that our decoder does not run; adapters through PEFT."""

    parallel = False  # the model has one adapter switched on at a time

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self._tuned: Any = None

    def add_adapter(self, name: str, folder: Path) -> None:
        from peft import PeftModel

        try:
            if self._tuned is None:
                self._tuned = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
            else:
                self._tuned.load_adapter(folder, adapter_name=name)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InvalidAdapter("PEFT cannot load the adapter") from error
        self._tuned.eval()

    def open(self, progress: Progress) -> None:
        from transformers import DynamicCache

        progress.memory = DynamicCache()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def step(self, work: Sequence[tuple[Progress, int]]) -> Tensor:
        return torch.stack([self._logits(progress, count) for progress, count in work])

    def _logits(self, progress: Progress, count: int) -> Tensor:
        start = progress.computed
        tokens = torch.tensor([progress.tokens[start : start + count]])
        with self._adapted(progress.adapter):
            model = self._tuned if self._tuned is not None else self._model
            result = model(input_ids=tokens, past_key_values=progress.memory, use_cache=True)
        progress.computed += count
        logits: Tensor = result.logits[0, -1].float()
        return logits

    def _adapted(self, name: str | None) -> AbstractContextManager[Any]:
        if self._tuned is None:
            return nullcontext()
        if name is None:
            disabled: AbstractContextManager[Any] = self._tuned.disable_adapter()
            return disabled
        self._tuned.set_adapter(name)
        return nullcontext()
