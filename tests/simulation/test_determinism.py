"""A seed is the whole of a run: anything else that decided would make a failure unrepeatable."""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.runner import play

ROOT = Path(__file__).parents[2]
DIGEST = "from tests.simulation.runner import play; print(play({!r}, {}).digest)"


def digest_elsewhere(story: str, seed: int, hash_seed: str) -> str:
    """Of the run in a process of its own, whose sets have another order."""
    found = subprocess.run(
        [sys.executable, "-c", DIGEST.format(story, seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return found.stdout.strip()


def test_a_seed_gives_the_same_run_in_another_process_and_another_seed_another() -> None:
    here = play("documents", 1).digest
    assert digest_elsewhere("documents", 1, "1") == here
    assert digest_elsewhere("documents", 2, "2") != here


def test_the_trace_is_a_record_of_the_run_and_does_not_change_it() -> None:
    told, silent = play("feedback", 1, keep_lines=True), play("feedback", 1)
    assert told.digest == silent.digest
    assert any("commit" in line for line in told.lines)
    assert silent.lines == []
