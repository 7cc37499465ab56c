"""Measures where adapters draw the line between answering and refusing, over draws of examples.

    python -m bench.refusals DATASET.jsonl --base MODEL_FOLDER [--examples 64] [--draws 3]

DATASET.jsonl has the lines of a snapshot, such as `tidemill demo --pool 160` leaves under
.tidemill/artifacts/local/datasets. Each draw trains on so many of its lines, with their share of
refusals, and looks at the first token that the adapter writes to the others. --averaged-share 0
keeps the weights of the last step, as a recipe without averaging would.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.training import measure
from services.trainer.adapters import run_folder
from services.trainer.adapters.finetune import fast_dtype
from services.trainer.domain.recipe import Recipe
from services.trainer.domain.targets import REFUSAL

Lines = list[dict[str, str]]


def is_refusal(line: dict[str, str]) -> bool:
    return line["completion"] == REFUSAL


def draw(lines: Lines, count: int, seed: int) -> tuple[Lines, Lines]:
    """So many lines with their share of refusals, and the rest."""
    order = random.Random(seed)
    refusals = [line for line in lines if is_refusal(line)]
    answers = [line for line in lines if not is_refusal(line)]
    share = round(count * len(refusals) / len(lines))
    chosen = order.sample(refusals, share) + order.sample(answers, count - share)
    learned = [line for line in lines if line in chosen]
    return learned, [line for line in lines if line not in chosen]


def refuses(model: Any, tokenizer: Any, lines: Lines) -> list[bool]:
    """Whether the likeliest first token begins a refusal."""
    first = tokenizer(REFUSAL, add_special_tokens=False).input_ids[0]
    found = []
    with torch.no_grad():
        for line in lines:
            ids = tokenizer(line["prompt"], add_special_tokens=False, return_tensors="pt").input_ids
            found.append(bool(model(ids, logits_to_keep=1).logits[0, -1].argmax() == first))
    return found


def share_of(found: Sequence[bool], wanted: Sequence[bool]) -> float:
    return sum(f and w for f, w in zip(found, wanted, strict=True)) / sum(wanted)


def one(lines: Lines, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Train on a draw and look at the rest."""
    learned, others = draw(lines, options.examples, seed)
    recipe = Recipe(averaged_share=options.averaged_share)
    with tempfile.TemporaryDirectory() as scratch:
        folder, dataset = Path(scratch) / "run", Path(scratch) / "examples.jsonl"
        dataset.write_text("".join(json.dumps(line) + "\n" for line in learned))
        result, seconds = measure(folder, dataset, options.base, recipe)
        dtype = fast_dtype(torch.device("cpu"))
        base = AutoModelForCausalLM.from_pretrained(options.base, dtype=dtype)
        model = PeftModel.from_pretrained(base, folder / run_folder.ADAPTER).eval()
        found = refuses(model, AutoTokenizer.from_pretrained(options.base), others)
    unanswerable = [is_refusal(line) for line in others]
    return {
        "draw": seed,
        "refused": round(share_of(found, unanswerable), 2),
        "refused_wrongly": round(share_of(found, [not each for each in unanswerable]), 2),
        "loss_last": round(result.metrics["train/loss_last"], 3),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--averaged-share", type=float, default=Recipe.averaged_share)
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.dataset.read_text().splitlines() if line]
    if len(lines) <= options.examples:
        sys.exit(
            f"{options.dataset} has {len(lines)} lines: too few to train on {options.examples}"
        )
    if not 0 < sum(map(is_refusal, lines)) < len(lines):
        sys.exit(f"{options.dataset} needs both refusals and answers to tell them apart")
    for seed in range(options.draws):
        print(json.dumps(one(lines, options, seed)), flush=True)


if __name__ == "__main__":
    main()
