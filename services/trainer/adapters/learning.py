"""One optimizer step. Its examples go through the model in shards of a fixed size, side by side.

A product over a few examples does not keep all processors busy, and threads that share one wait
for the one that something else interrupts; shards do not wait for each other. Their gradients are
added in a fixed order, and the size of a shard is part of the recipe: with as many threads a shard
the same step gives the same bytes, whichever shard ends first and whichever process has it.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as nn
from torch import Tensor

from services.trainer.adapters.average import Average
from services.trainer.adapters.passes import Example, Reader, Scored, score
from services.trainer.adapters.peers import Peers
from services.trainer.domain.recipe import Recipe, Step

Shard = tuple[int, ...]


class LossDiverged(Exception):
    """The loss is not a number any more."""


class Learner:
    """The model that learns and the examples that it learns from."""

    def __init__(
        self,
        model: Any,
        reader: Reader,
        examples: Sequence[Example],
        recipe: Recipe,
        peers: Peers,
    ) -> None:
        self._model = model
        self._reader = reader
        self._examples = examples
        self._recipe = recipe
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.average = Average(self.weights)
        self._sizes = [weight.numel() for weight in self.weights]
        self._peers = peers
        self._pool = _pool(recipe, peers)

    def learn(
        self, optimizer: torch.optim.Optimizer, step: Step, reference: dict[int, float]
    ) -> float:
        """One step over its examples; returns the loss. Raises LossDiverged."""
        optimizer.param_groups[0]["lr"] = step.learning_rate
        self._reader.merge()

        def gradient(shard: Shard) -> Tensor:
            loss = self._loss(shard, step, reference)
            slopes = torch.autograd.grad(loss, self.weights)
            return torch.cat([each.reshape(-1) for each in (loss.detach(), *slopes)])

        rows = self._side_by_side(gradient, self._shards(step.examples), 1 + sum(self._sizes))
        loss, *slopes = rows.sum(0).split([1, *self._sizes])
        if not math.isfinite(loss.item()):
            raise LossDiverged
        for weight, slope in zip(self.weights, slopes, strict=True):
            weight.grad = slope.view_as(weight)
        torch.nn.utils.clip_grad_norm_(self.weights, self._recipe.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        self.average.add(step.averaged)
        return float(loss.item())

    def margins(self, steps: Sequence[Step]) -> dict[int, float]:
        """By how much the model as it is prefers each target already, by example of the steps."""
        wanted = sorted({index for step in steps for index in step.examples})
        self._reader.merge()

        def margins(shard: Shard) -> Tensor:
            with torch.no_grad():
                scored = self._score(shard, with_rejected=True)
            found = torch.stack([_margin(each) for each in scored])
            return nn.pad(found, (0, self._recipe.shard_size - len(shard)))

        shards = self._shards(wanted)
        rows = self._side_by_side(margins, shards, self._recipe.shard_size).tolist()
        found: dict[int, float] = {}
        for shard, row in zip(shards, rows, strict=True):
            found |= zip(shard, row, strict=False)
        return found

    def _shards(self, indexes: Sequence[int]) -> list[Shard]:
        """Examples of like length share one: less padding."""
        size = self._recipe.shard_size
        ordered = sorted(indexes, key=lambda index: len(self._examples[index].prompt))
        return [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]

    def _side_by_side(
        self, work: Callable[[Shard], Tensor], shards: Sequence[Shard], width: int
    ) -> Tensor:
        """A row (width,) of each shard, in their order: (shards, width)."""
        mine = list(self._pool.map(work, self._peers.share(shards)))
        return self._peers.together(mine, len(shards), width)

    def _loss(self, shard: Shard, step: Step, reference: dict[int, float]) -> Tensor:
        """The shard's part of the step's mean over target tokens or, with pairs, over examples."""
        if step.phase == "supervised":
            tokens = sum(len(self._examples[index].target) for index in step.examples)
            scored = self._score(shard, with_rejected=False)
            return -torch.cat([each.chosen for each in scored]).sum() / tokens
        losses = [
            preference_loss(each.chosen, _margin(each) - reference[index], self._recipe)
            for index, each in zip(shard, self._score(shard, with_rejected=True), strict=True)
        ]
        return torch.stack(losses).sum() / len(step.examples)

    def _score(self, shard: Shard, *, with_rejected: bool) -> list[Scored]:
        return score(
            self._model,
            self._reader,
            [self._examples[index] for index in shard],
            self._recipe.gradient_tokens,
            with_rejected=with_rejected,
        )


def preference_loss(chosen: Tensor, margin: Tensor, recipe: Recipe) -> Tensor:
    """Direct preference optimisation against the supervised model, held to the target by its
    own likelihood: without that term both texts lose likelihood and the model falls apart."""
    preference = -nn.logsigmoid(recipe.preference_beta * margin)
    return preference - recipe.preference_nll_weight * chosen.mean()


def _margin(scored: Scored) -> Tensor:
    return scored.chosen.sum() - scored.rejected.sum()


def _pool(recipe: Recipe, peers: Peers) -> ThreadPoolExecutor:
    """A worker for each shard of a step, as far as there are threads, with an equal share. A GPU
    does one shard after the other."""
    threads = peers.threads(recipe.threads)
    shards = peers.most(math.ceil(recipe.batch_size / recipe.shard_size))
    workers = min(threads, shards) if peers.device.type == "cpu" else 1
    each = threads // workers
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,))
