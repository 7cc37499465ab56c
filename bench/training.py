"""Measures the training recipe: seconds, memory and loss of one run on a data set.

    python -m bench.training DATASET.jsonl --base MODEL_FOLDER [--epochs N] [--out FOLDER]

DATASET.jsonl has the lines of a snapshot: prompt, completion, rejected, answer_id, feedback_id.
The run goes through the trainer's own process entry, so that the figures are those of the service.
With --out the run folder stays, and its adapter/ can be served.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from services.trainer.adapters import run_folder
from services.trainer.adapters.run_folder import Plan, Result
from services.trainer.domain.recipe import Recipe

RUN_SECONDS = 3_600


def measure(folder: Path, dataset: Path, base: Path, recipe: Recipe) -> tuple[Result, float]:
    """The result of a run and the wall seconds of its process, imports included."""
    plan = Plan("bench", "bench-v1", str(base.resolve()), base.name, "", "", "", recipe)
    run_folder.write_plan(folder, plan, dataset.read_text())
    started = time.monotonic()
    command = [sys.executable, "-m", "services.trainer.adapters.training", str(folder)]
    subprocess.run(command, check=True, timeout=RUN_SECONDS)
    result = run_folder.read_result(folder)
    assert result
    return result, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--preference-steps", type=int, default=Recipe.preference_steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=Recipe.threads)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe = Recipe(
        epochs=options.epochs,
        preference_steps=options.preference_steps,
        seed=options.seed,
        threads=options.threads,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        result, seconds = measure(folder, options.dataset, options.base, recipe)
    print(json.dumps({"process_seconds": round(seconds, 1)} | result.metrics, indent=1))


if __name__ == "__main__":
    main()
