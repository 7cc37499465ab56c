"""Passes of a shard's examples through the model: prompt heads, then what is learned.

Ids and masks are made on the CPU and go to the model's device as they are used.

Prompt heads stand right-aligned in one padded batch, tails and targets left-aligned behind them,
so that every tail continues where its head ends. Nothing sees padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nn
from torch import Tensor

PAD = 0


@dataclass(frozen=True)
class Example:
    """Token ids: prompt (P), target (C, end token included), rejected (R; empty when none)."""

    prompt: list[int]
    target: list[int]
    rejected: list[int]
    refusal: bool = False


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of one example: target tokens (C,) and rejected ones (R,)."""

    chosen: Tensor
    rejected: Tensor


@dataclass(frozen=True)
class Cut:
    """One example as the two passes see it: head, then tail + target + rejected."""

    head: list[int]
    tail: list[int]
    target: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.tail + self.target + self.rejected

    @property
    def places(self) -> list[int]:
        """Positions; the rejected text takes those of the target: it continues the prompt too."""
        start = len(self.head)
        other = start + len(self.tail)
        main = range(start, other + len(self.target))
        return [*main, *range(other, other + len(self.rejected))]

    @property
    def labelled(self) -> list[int]:
        """Where the hidden states stand that foresee the target, then the rejected text."""
        first, other = len(self.tail), len(self.tail) + len(self.target)
        chosen = range(first - 1, other - 1)
        rejected = [first - 1, *range(other, other + len(self.rejected) - 1)]
        return [*chosen, *(rejected if self.rejected else [])]

    def visible(self) -> Tensor:
        """(tokens, tokens): the texts see the tail and themselves, never each other."""
        seen = torch.ones(len(self.tokens), len(self.tokens), dtype=torch.bool).tril()
        first, other = len(self.tail), len(self.tail) + len(self.target)
        seen[other:, first:other] = False
        return seen


class Reader:
    """A plain copy of the model that has the adapter merged in: faster than LoRA's side paths."""

    def __init__(self, model: Any, plain: Any) -> None:
        self._plain = plain.eval()
        layers = dict(plain.named_modules())
        tuned = model.base_model.model.model.named_modules()
        self._pairs = [(lora, layers[name]) for name, lora in tuned if hasattr(lora, "lora_A")]

    def merge(self) -> None:
        """Take over the adapter as it is now. From the base each time: no error adds up."""
        with torch.no_grad():
            for lora, layer in self._pairs:
                down, up = lora.lora_A["default"].weight, lora.lora_B["default"].weight
                base = lora.base_layer.weight.float()  # (out, in) + (out, rank) x (rank, in)
                layer.weight.copy_(torch.addmm(base, up, down, alpha=lora.scaling["default"]))

    def read(self, heads: Sequence[list[int]]) -> "Memory":
        """Keys and values of the heads, without gradients. What all begin with, such as the
        instruction, is computed once."""
        shared = common_beginning(heads)
        rests = [head[shared:] for head in heads]
        with torch.no_grad():
            cache = self._begin(heads[0][:shared], len(heads))
            return self._extend(cache, shared, rests)

    def _begin(self, tokens: list[int], rows: int) -> Any:
        if not tokens:
            return None
        ids = torch.tensor([tokens], device=self._plain.device)
        cache = self._plain(input_ids=ids, use_cache=True).past_key_values
        cache.batch_repeat_interleave(rows)
        return cache

    def _extend(self, cache: Any, shared: int, rests: Sequence[list[int]]) -> "Memory":
        """Appends the rests, right-aligned in one padded batch."""
        width = max(map(len, rests))
        own = torch.arange(width) >= width - torch.tensor([[len(rest)] for rest in rests])
        real = torch.cat([torch.ones(len(rests), shared, dtype=torch.bool), own], 1)
        if not width:
            return Memory(cache, real)
        causal = torch.ones(width, shared + width, dtype=torch.bool).tril(shared)
        # Padding sees itself at least: a row that sees nothing has no softmax.
        itself = torch.eye(width, dtype=torch.bool)
        visible = causal & real[:, None, :]
        visible[:, :, shared:] |= itself
        ids = torch.tensor([[PAD] * (width - len(rest)) + rest for rest in rests])
        device = self._plain.device
        output = self._plain(
            input_ids=ids.to(device),
            position_ids=(shared + (own.cumsum(1) - 1).clamp(min=0)).to(device),
            attention_mask=visible[:, None].to(device),
            past_key_values=cache,
            use_cache=True,
        )
        return Memory(output.past_key_values, real)


@dataclass(frozen=True)
class Memory:
    """What was read: the cache (None for nothing), and (rows, places) where a real token is."""

    cache: Any
    real: Tensor


def common_beginning(heads: Sequence[list[int]]) -> int:
    """How many first tokens all heads share."""
    shared = 0
    for tokens in zip(*heads, strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    return shared


def cut(example: Example, gradient_tokens: int, *, with_rejected: bool) -> Cut:
    """Splits the prompt where gradients start."""
    place = max(0, len(example.prompt) - gradient_tokens)
    head, tail = example.prompt[:place], example.prompt[place:]
    return Cut(head, tail, example.target, example.rejected if with_rejected else [])


def score(
    model: Any,
    reader: Reader,
    examples: Sequence[Example],
    gradient_tokens: int,
    *,
    with_rejected: bool,
) -> list[Scored]:
    """Log-probabilities of each example's texts, with gradients from the tail on.

    The rejected text continues the same prompt in the same pass.
    """
    cuts = [cut(example, gradient_tokens, with_rejected=with_rejected) for example in examples]
    hidden = hidden_states(model, reader, cuts)
    rows = torch.tensor([row for row, each in enumerate(cuts) for _ in each.labelled])
    columns = torch.tensor([column for each in cuts for column in each.labelled])
    labels = torch.tensor([token for each in cuts for token in each.target + each.rejected])
    # Logits only where there is a label: the vocabulary is far wider than the model.
    logits = model.base_model.model.lm_head(hidden[rows, columns]).float()  # (N, vocabulary)
    found = -nn.cross_entropy(logits, labels.to(logits.device), reduction="none")
    pieces = iter(found.split([size for c in cuts for size in (len(c.target), len(c.rejected))]))
    return [Scored(chosen, rejected) for chosen, rejected in zip(pieces, pieces, strict=True)]


def hidden_states(model: Any, reader: Reader, cuts: Sequence[Cut]) -> Tensor:
    """Last hidden states (examples, longest tail with its texts, width)."""
    width = max(len(each.tokens) for each in cuts)
    memory = reader.read([each.head for each in cuts])
    behind = memory.real.shape[1]
    visible = torch.zeros(len(cuts), width, behind + width, dtype=torch.bool)
    visible[:, :, :behind] = memory.real[:, None, :]
    visible[:, :, behind:] = torch.eye(width, dtype=torch.bool)
    for row, each in enumerate(cuts):
        length = len(each.tokens)
        visible[row, :length, behind : behind + length] = each.visible()
    hidden: Tensor = model.base_model.model.model(
        input_ids=padded([each.tokens for each in cuts], width).to(model.device),
        position_ids=padded([each.places for each in cuts], width).to(model.device),
        attention_mask=visible[:, None].to(model.device),
        past_key_values=memory.cache,
        use_cache=behind > 0,
    ).last_hidden_state
    return hidden


def padded(rows: Sequence[list[int]], width: int) -> Tensor:
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
