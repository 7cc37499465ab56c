"""The mean of the weights over the last supervised steps, which is what the run keeps.

Single steps over four examples throw a small model to and fro between answering and refusing;
where it stands after the last one is partly chance (docs/decisions/0007-training-recipe.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Average:
    """Of the weights as they are after each step that takes part."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self._mean = [torch.zeros_like(weight) for weight in weights]

    def add(self, number: int) -> None:
        """The weights as they are now; number counts from 1, 0 takes no part."""
        if number:
            for mean, weight in zip(self._mean, self._weights, strict=True):
                mean.lerp_(weight.detach(), 1 / number)

    def put(self) -> None:
        """The mean takes the place of the weights."""
        with torch.no_grad():
            for mean, weight in zip(self._mean, self._weights, strict=True):
                weight.copy_(mean)

    def state(self) -> list[Tensor]:
        """For a checkpoint."""
        return self._mean

    def restore(self, state: Sequence[Tensor]) -> None:
        """From a checkpoint."""
        for mean, saved in zip(self._mean, state, strict=True):
            mean.copy_(saved)
