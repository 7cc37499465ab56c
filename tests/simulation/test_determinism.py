"""A seed is the whole of a run: anything else that decided would make a failure unrepeatable."""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.runner import play

ROOT = Path(__file__).parents[2]
CODE = """
from tests.simulation.runner import play
for story, seed in {!r}:
    print(play(story, seed).digest)
"""
RUNS = [("documents", 2), ("documents", 6), ("feedback", 5)]
"""With enough trouble that retries are drawn."""


def digests_elsewhere(runs: list[tuple[str, int]], hash_seed: str) -> list[str]:
    """Of runs in a process of their own, whose sets have another order."""
    found = subprocess.run(
        [sys.executable, "-c", CODE.format(runs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return found.stdout.split()


def test_a_seed_gives_the_same_run_whatever_ran_before_in_any_process() -> None:
    here = [play(*run).digest for run in RUNS]
    assert digests_elsewhere(RUNS[::-1], "1")[::-1] == here
    assert len(set(here)) == len(RUNS)


def test_the_trace_is_a_record_of_the_run_and_does_not_change_it() -> None:
    told, silent = play("feedback", 1, keep_lines=True), play("feedback", 1)
    assert told.digest == silent.digest
    assert any("commit" in line for line in told.lines)
    assert silent.lines == []
