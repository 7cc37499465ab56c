"""Each planted bug is found, by the invariant that is meant for it."""

import pytest

from tests.simulation.planted.catalogue import BUGS, Bug
from tests.simulation.runner import caught, failure_of, play


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found(bug: Bug) -> None:
    assert caught(bug, bug.seed), f"{bug.name} is no longer found by seed {bug.seed}"


@pytest.mark.parametrize(
    ("story", "seed"), sorted({(bug.story, bug.seed) for bug in BUGS}), ids=str
)
def test_what_is_found_is_the_bug(story: str, seed: int) -> None:
    """The same seeds pass without the bugs, so it is the bug that broke them."""
    outcome = play(story, seed)
    assert not outcome.broken, f"{failure_of(story, outcome).replay}: {outcome.broken}"
