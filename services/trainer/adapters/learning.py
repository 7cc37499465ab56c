"""One optimizer step. Its examples go through the model in shards of a fixed size, side by side.

A product over a few examples does not keep all processors busy, and threads that share one wait
for the one that something else interrupts; shards do not wait for each other. Their gradients are
added in a fixed order, and the size of a shard is part of the recipe: on as many threads the same
step gives the same bytes, whichever shard ends first.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as nn
from torch import Tensor

from services.trainer.adapters.passes import Example, Reader, Scored, score
from services.trainer.domain.recipe import Recipe, Step

T = TypeVar("T")
Shard = tuple[int, ...]


class LossDiverged(Exception):
    """The loss is not a number any more."""


@dataclass(frozen=True)
class Gradient:
    """What a shard adds to its step: a part of the loss, and its slope by weight."""

    loss: float
    slopes: tuple[Tensor, ...]


class Learner:
    """The model that learns and the examples that it learns from."""

    def __init__(
        self, model: Any, reader: Reader, examples: Sequence[Example], recipe: Recipe
    ) -> None:
        self._model = model
        self._reader = reader
        self._examples = examples
        self._recipe = recipe
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._pool = _pool(recipe)

    def learn(
        self, optimizer: torch.optim.Optimizer, step: Step, reference: dict[int, float]
    ) -> float:
        """One step over its examples; returns the loss. Raises LossDiverged."""
        optimizer.param_groups[0]["lr"] = step.learning_rate
        self._reader.merge()

        def gradient(shard: Shard) -> Gradient:
            loss = self._loss(shard, step, reference)
            return Gradient(loss.item(), torch.autograd.grad(loss, self.weights))

        parts = self._side_by_side(gradient, step.examples)
        loss = sum(part.loss for part in parts)
        if not math.isfinite(loss):
            raise LossDiverged
        for weight, *slopes in zip(self.weights, *(part.slopes for part in parts), strict=True):
            weight.grad = torch.stack(slopes).sum(0)
        torch.nn.utils.clip_grad_norm_(self.weights, self._recipe.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    def margins(self, steps: Sequence[Step]) -> dict[int, float]:
        """By how much the model as it is prefers each target already, by example of the steps."""
        wanted = sorted({index for step in steps for index in step.examples})
        self._reader.merge()

        def margins(shard: Shard) -> dict[int, float]:
            with torch.no_grad():
                scored = self._score(shard, with_rejected=True)
            return {index: _margin(each).item() for index, each in zip(shard, scored, strict=True)}

        found = self._side_by_side(margins, wanted)
        return {index: margin for part in found for index, margin in part.items()}

    def _side_by_side(self, work: Callable[[Shard], T], indexes: Sequence[int]) -> list[T]:
        """Results in the order of the shards. Examples of like length share one: less padding."""
        size = self._recipe.shard_size
        ordered = sorted(indexes, key=lambda index: len(self._examples[index].prompt))
        shards = [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]
        return list(self._pool.map(work, shards))

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


def _pool(recipe: Recipe) -> ThreadPoolExecutor:
    """A worker for each shard of a step, as far as there are threads, with an equal share."""
    threads = recipe.threads or torch.get_num_threads()
    workers = min(threads, math.ceil(recipe.batch_size / recipe.shard_size))
    each = threads // workers
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,))
