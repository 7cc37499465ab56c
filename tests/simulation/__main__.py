"""python -m tests.simulation: seeds by number or by time, or one seed again with its trace."""

import argparse
import json
import sys
from pathlib import Path

from tests.simulation import runner
from tests.simulation.planted.catalogue import BUGS


def main() -> int:
    arguments = parsed()
    if arguments.seed is not None:
        return replay(arguments)
    report = runner.explore(
        seeds=arguments.seeds,
        seconds=arguments.seconds,
        first=arguments.first,
        search=arguments.search,
    )
    for failure in report.failures:
        sys.stdout.write(f"{failure.replay}\n  {'; '.join(failure.broken)}\n")
    text = json.dumps(report.as_json(), indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 1 if report.failures or report.missed else 0


def replay(arguments: argparse.Namespace) -> int:
    """The trace of one seed: virtual time, step, process, event."""
    bug = next((b for b in BUGS if b.name == arguments.planted), None)
    outcome = runner.play(arguments.story, arguments.seed, bug, keep_lines=True)
    for line in outcome.lines:
        sys.stdout.write(f"{line}\n")
    for words in outcome.broken:
        sys.stdout.write(f"broken  {words}\n")
    sys.stdout.write(f"digest  {outcome.digest}\n")
    return 1 if outcome.broken else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of each story")
    parser.add_argument("--seconds", type=float, default=0.0, help="instead: as many as fit")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument(
        "--search", type=int, default=0, help="look for planted bugs in so many seeds"
    )
    parser.add_argument("--seed", type=int, help="run this one again and show its trace")
    parser.add_argument("--story", choices=sorted(runner.STORIES), default="documents")
    parser.add_argument("--planted", choices=[bug.name for bug in BUGS], metavar="BUG")
    parser.add_argument("--json", type=Path, help="write the report here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
