"""The long form: python -m tests.faults --seconds 900 --json faults.json [--seed 1]."""

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.drive import Job, drive, figures_of, model_server, scratch
from tests.faults.lane import DOCUMENTS, LEARNING
from tests.faults.nursery import missing_tools
from tests.faults.others import SUITES, ask, present

LEAST_SECONDS = 120


def main() -> int:
    """0: nothing lost, doubled or stuck. 1: something was. 2: it could not run."""
    options = arguments()
    missing = missing_tools()
    if missing:
        say(missing)
        return 2
    # A client says a lot about a broker that is killed all the time.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(lambda said: "AIOKafka" not in said.getMessage())
    with scratch() as folder, model_server(folder) as triton:
        figures = asyncio.run(run(options.seconds, options.seed, folder, triton))
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return tell(figures, options.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--json", type=Path, default=Path("faults.json"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.seconds < LEAST_SECONDS:
        parser.error(f"a run needs {LEAST_SECONDS} seconds at least")
    return options


async def run(seconds: float, seed: int, folder: Path, triton: str) -> dict[str, Any]:
    """All lanes side by side, then the other suites; returns what the file holds."""
    started = time.monotonic()
    others = {suite: suite.share * seconds for suite in SUITES if present(suite)}
    jobs = [Job("learning-1", LEARNING, seed), Job("learning-2", LEARNING, seed + 1)]
    if triton:
        jobs.append(Job("documents", DOCUMENTS, seed + 2))
    else:
        say("the document lane is left out, its embedder needs the models: make setup")
    say(f"{len(jobs)} lanes for {seconds - sum(others.values()):.0f} s, seed {seed}, in {folder}")
    outcomes = await drive(jobs, folder, seconds - sum(others.values()), say, triton)
    figures, failed = figures_of(outcomes), {}
    for suite in SUITES:
        say(f"python -m {suite.module}")
        answer = await ask(suite, suite.share * seconds)
        figures[suite.key] = answer.figures
        if answer.why:
            failed[suite.key] = answer.why
    spent = round(time.monotonic() - started)
    return figures | {"failed_suites": failed, "seed": seed, "seconds": spent}


def tell(figures: dict[str, Any], file: Path) -> int:
    say(
        f"{figures['acked']} acked, {figures['lost']} lost, {figures['doubled']} doubled, "
        f"{figures['kill_points']} kill points, {figures['sigkills']} SIGKILLs"
    )
    for failure in figures["failures"]:
        say(f"{failure['lane']}: {failure['why']}")
        for each in failure["disagreements"][:10]:
            say(f"  {each}")
        for each in failure["faults_since_the_last_good_audit"]:
            say(f"  since the last good audit: {each}")
    for suite, why in figures["failed_suites"].items():
        say(f"{suite}: {why}")
    if figures["failures"] or figures["failed_suites"]:
        folders = [failure["folder"] for failure in figures["failures"]]
        say(f"Next: look at {', '.join([*folders, str(file)])}")
        return 1
    say(f"Next: read {file} (docs/faults.md), or run another --seed")
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
