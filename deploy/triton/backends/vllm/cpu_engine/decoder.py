"""A Llama-style decoder that runs ragged batches: every sequence adds any number of tokens."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from cpu_engine.adapters import FUSED, Adapter
from cpu_engine.linear import Linear, linear

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")


class UnsupportedModel(Exception):
    """The folder holds a model whose architecture this decoder does not run."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder."""

    layers: int
    hidden: int
    heads: int
    groups: int
    head: int
    inner: int
    epsilon: float
    theta: float
    positions: int

    @property
    def widths(self) -> Mapping[str, int]:
        """Output widths of the checkpoint's projections."""
        query, key = self.heads * self.head, self.groups * self.head
        return {
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": key,
            "self_attn.o_proj": self.hidden,
            "mlp.gate_proj": self.inner,
            "mlp.up_proj": self.inner,
            "mlp.down_proj": self.hidden,
        }


@dataclass(frozen=True)
class Segment:
    """New tokens of one sequence; `memory` is (layers, 2, groups, capacity, head)."""

    tokens: Sequence[int]
    start: int
    memory: Tensor
    adapter: Adapter | None


@dataclass(frozen=True)
class Layer:
    """One block's weights."""

    fused: Mapping[str, Linear]
    before_attention: Tensor
    before_mlp: Tensor


def read_shape(folder: Path) -> Shape:
    """The sizes from config.json; raises UnsupportedModel for anything unusual."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if config["architectures"][0] not in ARCHITECTURES:
        raise UnsupportedModel(f"architecture {config['architectures'][0]}")
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise UnsupportedModel("scaled rotary embeddings")
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        raise UnsupportedModel("sliding window attention")
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        groups=config.get("num_key_value_heads", heads),
        head=config.get("head_dim") or config["hidden_size"] // heads,
        inner=config["intermediate_size"],
        epsilon=config["rms_norm_eps"],
        theta=rope.get("rope_theta") or config.get("rope_theta", 10000.0),
        positions=config["max_position_embeddings"],
    )


class Decoder:
    """Weights in memory and one forward pass over a ragged batch."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.shape = read_shape(folder)
        self.dtype = dtype
        tensors = _read(folder)
        embedding = tensors["model.embed_tokens.weight"]
        self._embedding = embedding.to(dtype)
        head = tensors.get("lm_head.weight")
        self._head = linear(self._embedding if head is None else head.to(dtype))
        self._norm = tensors["model.norm.weight"].to(dtype)
        self._layers = [_layer(tensors, number, dtype) for number in range(self.shape.layers)]
        self._cosine, self._sine = (half.to(dtype) for half in _rotations(self.shape))

    def memory(self, capacity: int) -> Tensor:
        """Room for the keys and values of one sequence of at most `capacity` tokens."""
        shape = self.shape
        return torch.empty(shape.layers, 2, shape.groups, capacity, shape.head, dtype=self.dtype)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Logits (segments, vocabulary), float32, after the last token of each segment.

        Writes the new keys and values into each segment's memory. Segments that share an
        adapter should stand together: each run of them costs one pair of small products.
        """
        counts = [len(segment.tokens) for segment in segments]
        tokens = torch.tensor([token for segment in segments for token in segment.tokens])
        positions = torch.cat(
            [torch.arange(s.start, s.start + n) for s, n in zip(segments, counts, strict=True)]
        )
        rotation = (self._cosine[positions], self._sine[positions])
        rows = _spans(counts)
        updates = _runs(segments, rows)
        masks = [_mask(s.start, n, self.shape) for s, n in zip(segments, counts, strict=True)]
        state = self._embedding[tokens]
        for number, layer in enumerate(self._layers):
            state = state + self._attention(
                number, layer, state, segments, rows, masks, rotation, updates
            )
            state = state + self._mlp(number, layer, state, updates)
        last = torch.tensor([stop - 1 for _, stop in rows])
        return self._head(self._normed(state[last], self._norm)).float()

    def _attention(
        self,
        number: int,
        layer: Layer,
        state: Tensor,
        segments: Sequence[Segment],
        rows: Sequence[tuple[int, int]],
        masks: Sequence[Tensor | None],
        rotation: tuple[Tensor, Tensor],
        updates: "Updates",
    ) -> Tensor:
        shape = self.shape
        normed = self._normed(state, layer.before_attention)
        fused = _project("qkv", number, layer, normed, updates)
        fused = fused.view(len(fused), shape.heads + 2 * shape.groups, shape.head)
        turned = _rotate(fused[:, : shape.heads + shape.groups], *rotation)
        queries, keys = turned[:, : shape.heads], turned[:, shape.heads :]
        values = fused[:, shape.heads + shape.groups :]
        mixed = torch.empty(len(fused), shape.heads * shape.head, dtype=self.dtype)
        for segment, (start, stop), mask in zip(segments, rows, masks, strict=True):
            memory, end = segment.memory[number], segment.start + stop - start
            memory[0, :, segment.start : end] = keys[start:stop].transpose(0, 1)
            memory[1, :, segment.start : end] = values[start:stop].transpose(0, 1)
            mixed[start:stop] = _attend(queries[start:stop], memory[:, :, :end], mask, shape)
        return _project("out", number, layer, mixed, updates)

    def _mlp(self, number: int, layer: Layer, state: Tensor, updates: "Updates") -> Tensor:
        normed = self._normed(state, layer.before_mlp)
        gate, up = _project("gate_up", number, layer, normed, updates).chunk(2, -1)
        return _project("down", number, layer, functional.silu(gate).mul_(up), updates)

    def _normed(self, state: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(state, (self.shape.hidden,), weight, self.shape.epsilon)


Updates = Sequence[tuple[Adapter, slice]]


def _project(name: str, number: int, layer: Layer, state: Tensor, updates: Updates) -> Tensor:
    """One fused projection with each adapter's update on its own rows."""
    result = layer.fused[name](state)
    for adapter, rows in updates:
        update = adapter.layers[number].get(name)
        if update is not None:
            result[rows].addmm_(state[rows] @ update.down, update.up)
    return result


def _attend(queries: Tensor, memory: Tensor, mask: Tensor | None, shape: Shape) -> Tensor:
    """Attention of (tokens, heads, head) queries over (2, groups, length, head) memory.

    The query heads that share a key head are stacked as rows, so that keys are never copied.
    """
    tokens, shared = len(queries), shape.heads // shape.groups
    stacked = queries.view(tokens, shape.groups, shared, shape.head).permute(1, 2, 0, 3)
    # Four dimensions, or PyTorch does not take its fused kernel.
    stacked = stacked.reshape(1, shape.groups, shared * tokens, shape.head)
    keys, values = memory[:, None]
    mixed = functional.scaled_dot_product_attention(stacked, keys, values, attn_mask=mask)
    mixed = mixed.view(shape.groups, shared, tokens, shape.head).permute(2, 0, 1, 3)
    return mixed.reshape(tokens, shape.heads * shape.head)


def _mask(start: int, count: int, shape: Shape) -> Tensor | None:
    """Which of the start + count positions each stacked query row may see; None for one token."""
    if count == 1:
        return None
    seen = torch.arange(start + count) <= torch.arange(start, start + count).unsqueeze(1)
    return seen.repeat(shape.heads // shape.groups, 1)


def _rotate(state: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    low, high = state.chunk(2, -1)
    return state * cosine + torch.cat((-high, low), -1) * sine


def _spans(counts: Sequence[int]) -> list[tuple[int, int]]:
    spans, start = [], 0
    for count in counts:
        spans.append((start, start + count))
        start += count
    return spans


def _runs(segments: Sequence[Segment], rows: Sequence[tuple[int, int]]) -> Updates:
    """The adapters in use, each with the rows of a run of segments that use it."""
    runs: list[tuple[Adapter, slice]] = []
    for segment, (start, stop) in zip(segments, rows, strict=True):
        if segment.adapter is None:
            continue
        if runs and runs[-1][0] is segment.adapter and runs[-1][1].stop == start:
            runs[-1] = (segment.adapter, slice(runs[-1][1].start, stop))
        else:
            runs.append((segment.adapter, slice(start, stop)))
    return runs


def _rotations(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines (positions, 1, head)."""
    powers = torch.arange(0, shape.head, 2).float() / shape.head
    angles = torch.outer(torch.arange(shape.positions).float(), shape.theta**-powers)
    angles = torch.cat((angles, angles), -1).unsqueeze(1)
    return angles.cos(), angles.sin()


def _read(folder: Path) -> dict[str, Tensor]:
    """As they are on disk: each copy of all weights costs half a second of a processor."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return tensors


def _layer(tensors: dict[str, Tensor], number: int, dtype: torch.dtype) -> Layer:
    """Fuses one layer's weights, converts them and lets go of the parts."""
    prefix = f"model.layers.{number}"
    fused = {}
    for name, modules in FUSED.items():
        weights = [tensors.pop(f"{prefix}.{module}.weight") for module in modules]
        parts = [tensors.pop(f"{prefix}.{module}.bias", None) for module in modules]
        biases = [part for part in parts if part is not None]
        bias = torch.cat(biases).to(dtype) if biases else None
        fused[name] = linear(torch.cat(weights).to(dtype), bias)
    return Layer(
        fused,
        tensors[f"{prefix}.input_layernorm.weight"].to(dtype),
        tensors[f"{prefix}.post_attention_layernorm.weight"].to(dtype),
    )
