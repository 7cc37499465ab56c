"""LoRA adapters in PEFT's layout, ready to be added to the decoder's fused projections."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Which module of the checkpoint lands in which fused projection, in column order.
FUSED: Mapping[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
MODULES = frozenset(module.rsplit(".", 1)[1] for modules in FUSED.values() for module in modules)


class InvalidAdapter(Exception):
    """The folder is no LoRA adapter that this engine can apply; the message says why."""


@dataclass(frozen=True)
class LowRank:
    """One projection's update: (rows, inputs) @ down (inputs, rank) @ up (rank, outputs)."""

    down: Tensor
    up: Tensor

    def to(self, dtype: torch.dtype) -> "LowRank":
        return LowRank(self.down.to(dtype), self.up.to(dtype))


@dataclass(frozen=True)
class Adapter:
    """An adapter's updates by layer and fused projection."""

    layers: tuple[Mapping[str, LowRank], ...]


def load(folder: Path, layers: int, widths: Mapping[str, int], dtype: torch.dtype) -> Adapter:
    """Reads a PEFT folder; `widths` are the output widths of the plain modules.

    Raises InvalidAdapter when a file is missing or the adapter is more than plain LoRA.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = _tensors(folder / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidAdapter("adapter files are missing or unreadable") from error
    _check(config, tensors)
    scale = _scale(config)
    fused = [_layer(tensors, number, scale, widths) for number in range(layers)]
    return Adapter(tuple({k: v.to(dtype) for k, v in layer.items()} for layer in fused))


def _tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by `layer.module.lora_X`, float32."""
    found = {}
    with safe_open(str(path), framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            short = name.split(".layers.", 1)[-1].removesuffix(".weight")
            found[short] = file.get_tensor(name).float()
    return found


def _check(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
    if config.get("peft_type") != "LORA":
        raise InvalidAdapter("not a LoRA adapter")
    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise InvalidAdapter("DoRA and trained biases are not supported")
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise InvalidAdapter("ranks that differ by module are not supported")
    for name in tensors:
        parts = name.split(".")
        if len(parts) != 4 or parts[2] not in MODULES or parts[3] not in {"lora_A", "lora_B"}:
            raise InvalidAdapter(f"unexpected tensor {name}")
    if not tensors:
        raise InvalidAdapter("no tensors")


def _scale(config: Mapping[str, object]) -> float:
    rank, alpha = float(str(config["r"])), float(str(config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _layer(
    tensors: Mapping[str, Tensor], number: int, scale: float, widths: Mapping[str, int]
) -> Mapping[str, LowRank]:
    fused = {}
    for name, modules in FUSED.items():
        update = _fuse(tensors, number, modules, scale, widths)
        if update is not None:
            fused[name] = update
    return fused


def _fuse(
    tensors: Mapping[str, Tensor],
    number: int,
    modules: tuple[str, ...],
    scale: float,
    widths: Mapping[str, int],
) -> LowRank | None:
    """Stacks the modules of one fused projection: ranks side by side, outputs block by block."""
    downs, ups, start = [], [], 0
    total = sum(widths[module] for module in modules)
    for module in modules:
        down = tensors.get(f"{number}.{module}.lora_A")
        up = tensors.get(f"{number}.{module}.lora_B")
        if down is not None and up is not None:
            if up.shape[0] != widths[module]:
                raise InvalidAdapter("the adapter was made for another base model")
            block = torch.zeros(up.shape[1], total)
            block[:, start : start + widths[module]] = up.T * scale
            downs.append(down.T)
            ups.append(block)
        start += widths[module]
    if not downs:
        return None
    return LowRank(torch.cat(downs, 1).contiguous(), torch.cat(ups, 0).contiguous())
