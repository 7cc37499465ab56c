"""Many seeds: the clean code must pass all of them, and each planted bug must be found."""

import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.simulation import documents, feedback
from tests.simulation.planted.catalogue import BUGS, Bug
from tests.simulation.run import Outcome, simulate

MOST_SEEDS = 50
"""A planted bug that so many seeds miss is missed."""
STORIES: dict[str, Any] = {"documents": documents, "feedback": feedback}


@dataclass(frozen=True)
class Failure:
    """A seed that broke a promise, and how to see it again."""

    story: str
    seed: int
    broken: tuple[str, ...]
    replay: str


@dataclass(frozen=True)
class Report:
    """seeds: runs of the code as it is. planted and found: bugs put in, and those that were seen.
    processor_seconds: of one core, for all runs together."""

    seeds: int
    planted: int
    found: int
    failures: tuple[Failure, ...]
    missed: tuple[str, ...]
    processor_seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def play(story: str, seed: int, bug: Bug | None = None, *, keep_lines: bool = False) -> Outcome:
    """One run, with a planted bug or without."""
    module = STORIES[story]
    with bug.plant() if bug else nullcontext():
        return simulate(seed, module.story, module.NAMES, keep_lines=keep_lines)


def caught(bug: Bug, seed: int) -> tuple[str, ...]:
    """The invariants meant for this bug that broke under this seed."""
    return tuple(
        words for words in play(bug.story, seed, bug).broken if words.startswith(bug.words)
    )


def first_seed(bug: Bug, seeds: Iterable[int]) -> int | None:
    """The first seed that finds the bug."""
    return next((seed for seed in seeds if caught(bug, seed)), None)


def likely_seeds(bug: Bug) -> list[int]:
    """The one that is known, and then one after the other."""
    return [bug.seed, *(seed for seed in range(1, MOST_SEEDS + 1) if seed != bug.seed)]


def clean(stories: Sequence[str], first: int, until: Iterator[bool]) -> Iterator[Outcome | Failure]:
    """Seeds of the code as it is, story by story, as long as there is time."""
    seed = first
    for go_on in until:
        if not go_on:
            return
        for story in stories:
            outcome = play(story, seed)
            yield failure_of(story, outcome) if outcome.broken else outcome
        seed += 1


def failure_of(story: str, outcome: Outcome, bug: str = "") -> Failure:
    planted = f" --planted {bug!r}" if bug else ""
    command = f"python -m tests.simulation --story {story} --seed {outcome.seed}{planted}"
    return Failure(
        story, outcome.seed, outcome.broken, f"seed={outcome.seed} commit={commit()}: {command}"
    )


@lru_cache(maxsize=1)
def commit() -> str:
    """The code that a seed belongs to: another commit may take other turns."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


def counted(number: int) -> Iterator[bool]:
    yield from (True for _ in range(number))


def timed(seconds: float) -> Iterator[bool]:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield True


def explore(*, seeds: int = 0, seconds: float = 0.0, first: int = 1, search: int = 0) -> Report:
    """The whole examination: `seeds` of each story, or as many as fit into `seconds`; then every
    planted bug under its likely seeds, or the first `search` ones. `make faults` calls it."""
    began = time.process_time()
    until = timed(seconds) if seconds else counted(seeds)
    played = list(clean(list(STORIES), first, until))
    failures = tuple(each for each in played if isinstance(each, Failure))
    missed = tuple(
        bug.name
        for bug in BUGS
        if not first_seed(bug, range(1, search + 1) if search else likely_seeds(bug))
    )
    spent = time.process_time() - began
    found = len(BUGS) - len(missed)
    return Report(len(played), len(BUGS), found, failures, missed, round(spent, 1))
