"""Each planted bug is found by the invariant that is meant for it, and without it nothing is."""

import pytest

from tests.simulation.planted.catalogue import BUGS, Bug
from tests.simulation.runner import failure_of, first_seed, likely_seeds, play

SEEDS = sorted({(bug.story, bug.seed) for bug in BUGS})


@pytest.mark.timeout(300)  # a commit that shifts the seeds makes it look for another
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found(bug: Bug) -> None:
    assert first_seed(bug, likely_seeds(bug)) is not None


@pytest.mark.parametrize(("story", "seed"), SEEDS)
def test_every_promise_holds_under_the_same_trouble(story: str, seed: int) -> None:
    outcome = play(story, seed)
    assert not outcome.broken, f"{failure_of(story, outcome).replay}: {outcome.broken}"
