"""How a run trains: the numbers of the recipe, and the order of its steps."""

import math
import random
from dataclasses import dataclass
from typing import Literal

Phase = Literal["supervised", "preference"]


@dataclass(frozen=True)
class Recipe:
    """Numbers measured in docs/decisions/0007-training-recipe.md.

    gradient_tokens: last tokens of a prompt that gradients flow through, beside the target.
    batch_size: examples a step.
    shard_size: examples that go through the model together; a step's shards run side by side.
    averaged_share: the last supervised steps whose weights are averaged, as part of all of them.
    preference_steps: at most so many steps of direct preference optimisation at the end.
    """

    rank: int = 8
    alpha: float = 16.0
    modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    gradient_tokens: int = 32
    learning_rate: float = 2e-3
    warmup_share: float = 0.1
    epochs: int = 1
    batch_size: int = 4
    shard_size: int = 2
    max_gradient_norm: float = 1.0
    averaged_share: float = 0.5
    max_prompt_tokens: int = 1024
    preference_steps: int = 2
    preference_batch_size: int = 4
    preference_learning_rate: float = 5e-5
    preference_beta: float = 0.1
    preference_nll_weight: float = 1.0
    max_rejected_tokens: int = 32
    checkpoint_steps: int = 4
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Step:
    """One optimizer step: its phase, its examples (positions in the data set), its rate.

    averaged: how many steps up to this one take part in the average; 0 where this one does not.
    """

    phase: Phase
    examples: tuple[int, ...]
    learning_rate: float
    averaged: int = 0


def plan_steps(
    recipe: Recipe, supervised: int, pairs: tuple[int, ...], refusals: tuple[int, ...] = ()
) -> tuple[Step, ...]:
    """Every step of a run, fixed by the seed alone, so that a resumed run repeats none.

    supervised: number of examples. pairs: positions of those that have a rejected text.
    refusals: positions of those whose target is the refusal.
    """
    order = random.Random(recipe.seed)
    answers = tuple(sorted(set(range(supervised)) - set(refusals)))
    return (*_supervised(recipe, (answers, refusals), order), *_preference(recipe, pairs, order))


def _supervised(
    recipe: Recipe, kinds: tuple[tuple[int, ...], ...], order: random.Random
) -> list[Step]:
    epochs = (_spread(kinds, order) for _ in range(recipe.epochs))
    batches = [batch for epoch in epochs for batch in _batches(epoch, recipe.batch_size)]
    alone = min(len(batches) - 1, math.ceil(len(batches) * (1 - recipe.averaged_share)))
    return [
        Step("supervised", batch, _rate(recipe, number, len(batches)), max(0, number + 1 - alone))
        for number, batch in enumerate(batches)
    ]


def _spread(kinds: tuple[tuple[int, ...], ...], order: random.Random) -> list[int]:
    """Shuffled, with every kind at even distances: a run of refusals near the end would teach a
    small model to refuse, and none there to answer everything."""
    places: list[tuple[float, int]] = []
    for kind in kinds:
        shuffled, first = order.sample(kind, len(kind)), order.random()
        places += [((number + first) / len(kind), each) for number, each in enumerate(shuffled)]
    return [example for _, example in sorted(places)]


def _preference(recipe: Recipe, pairs: tuple[int, ...], order: random.Random) -> list[Step]:
    wanted = min(len(pairs), recipe.preference_steps * recipe.preference_batch_size)
    chosen = order.sample(pairs, wanted)
    return [
        Step("preference", batch, recipe.preference_learning_rate)
        for batch in _batches(chosen, recipe.preference_batch_size)
    ]


def _rate(recipe: Recipe, step: int, total: int) -> float:
    """Linear warm-up, then linear decay to almost nothing."""
    warm = max(1.0, recipe.warmup_share * total)
    return recipe.learning_rate * min(1.0, (step + 1) / warm) * (1 - step / total)


def _batches(items: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]
