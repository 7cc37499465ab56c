"""The code as it is passes its seeds; `python -m tests.simulation` plays many more of them."""

import pytest

from tests.simulation.runner import failure_of, play

SEEDS = 3


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
@pytest.mark.parametrize("story", ["documents", "feedback"])
def test_every_promise_holds_under_trouble(story: str, seed: int) -> None:
    outcome = play(story, seed)
    assert not outcome.broken, f"{failure_of(story, outcome).replay}: {outcome.broken}"
